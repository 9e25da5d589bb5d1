#include "train/dry_run.h"

#include <doctest/doctest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "core/error.h"
#include "tests/train/tiny_run.h"
#include "train/memory_check.h"
#include "train/stored_model.h"
#include "train/trained_model.h"

namespace hew::train {
namespace {

const std::string kRecipes = HEW_SOURCE_DIR "/recipes/";

std::string report_of(const std::string& recipe, std::vector<std::string> overrides = {},
                      int ranks = 2) {
  overrides.insert(overrides.begin(), "model.vocab=1024");
  return dry_run_report(load_recipe(kRecipes + recipe + ".yaml", overrides), ranks,
                        make_cpu_stream());
}

// The line that starts with `label`, its runs of spaces made one.
std::string line_of(const std::string& report, const std::string& label) {
  const std::size_t begin = report.find("\n" + label) + 1;
  std::string line;
  for (const char c : report.substr(begin, report.find('\n', begin) - begin)) {
    if (c != ' ' || !line.ends_with(' '))
      line += c;
  }
  return line;
}

// GiB of a line of the memory table, at the first and the last step.
std::pair<double, double> memory_of(const std::string& report, const std::string& label) {
  const std::string line = line_of(report, "  " + label);
  const std::size_t last = line.rfind(' ');
  const std::size_t first = line.rfind(' ', last - 1);
  return {std::stod(line.substr(first)), std::stod(line.substr(last))};
}

// Whether a value of three decimals is this one.
bool near(double value, double expected) {
  return std::abs(value - expected) <= 6e-4;
}

}  // namespace

TEST_CASE("real-size recipes are reported without the memory or the device they need") {
  CHECK(line_of(report_of("gpt2-124m-dense", {"model.vocab=50257"}), "parameters") ==
        "parameters 124439808 in full");
  const std::string xl = report_of("gpt2-xl-blast", {"train.steps=100", "optim.schedule.warmup=0"});
  // 6400 by 1600 in blocks of 64 is 100 by 25; 80 % of 2500 die between 25 % and 75 %.
  CHECK(line_of(xl, "blocks.47.mlp.up.weight") ==
        "blocks.47.mlp.up.weight [6400, 1600] 10240000 64 2500 2500 2500 750 500 500");
  CHECK_FALSE(report_of("llama-1b-blast", {"train.steps=100", "optim.schedule.warmup=0"}).empty());
}

TEST_CASE("FLOPs of a step fall with the density of what is sparse") {
  // A token costs 6 FLOPs a weight of its matrices and of the tied head, and 14 a channel and
  // visible token in the attention of a layer; 80 % of the MLPs' blocks are dead in the end.
  const double tokens = 8.0 * 128;  // a step of the tiny recipes
  const double mlp = 6 * 4 * 2.0 * 256 * 1024;
  const double rest = 6 * (4 * 4.0 * 256 * 256 + 1024.0 * 256) + 4 * 14 * 64.5 * 256;
  const auto expected = [&](double density) {
    return fmt::format("{:.4e}", tokens * (density * mlp + rest));
  };
  const std::string dense = line_of(report_of("gpt-tiny-dense"), "FLOPs a step");
  CHECK(dense ==
        fmt::format("FLOPs a step {} at step 0, {} at the last", expected(1), expected(1)));
  const std::string sparse = line_of(report_of("gpt-tiny-blast"), "FLOPs a step");
  constexpr double kLive = 51.0 / 256;  // of 32 by 8 blocks, round(0.8 · 256) are dead
  CHECK(sparse ==
        fmt::format("FLOPs a step {} at step 0, {} at the last", expected(1), expected(kLive)));
}

TEST_CASE("FLOPs of a run are those of its steps, whose masks are of the refresh before") {
  const std::vector<std::string> overrides{"train.steps=200", "sparsity.0.every=30",
                                           "sparsity.0.schedule.begin=10",
                                           "sparsity.0.schedule.end=90"};
  const double tokens = 8.0 * 128;
  const double mlp = 2 * 4 * 2.0 * 256 * 1024;  // of one product
  const double rest = 6 * (4 * 4.0 * 256 * 256 + 1024.0 * 256) + 4 * 14 * 64.5 * 256;
  double flops = 0;
  double live = 256;
  for (int step = 0; step < 200; ++step) {
    const bool refreshes = step == 10 || step == 40 || step == 70 || step == 90;
    const bool grows = refreshes && step < 90;
    flops += tokens * (rest + mlp * (live / 256 * (grows ? 2 : 3) + (grows ? 1 : 0)));
    if (refreshes) {
      const double left = 1 - (step - 10) / 80.0;
      live = 256 - std::round(256 * 0.8 * (1 - left * left * left));
    }
  }
  CHECK(line_of(report_of("gpt-tiny-blast", overrides), "FLOPs of the run")
            .starts_with(fmt::format("FLOPs of the run {:.4e} over 200 steps", flops)));
  const std::string words = "`regrow: union` adds";
  CHECK(report_of("gpt-tiny-blast").find(words) != std::string::npos);
  CHECK(report_of("gpt-tiny-blast", {"sparsity.0.regrow=swap"}).find(words) == std::string::npos);
  // Steps between refreshes are not gone through one by one.
  CHECK_FALSE(report_of("gpt-tiny-blast", {"train.steps=1000000000000", "sparsity.0.every=100000"})
                  .empty());
}

TEST_CASE("a run counts the FLOPs that its dry run expects") {
  dist::LocalCommunicator alone;
  const test::Scratch scratch;
  const test::TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"blast", "ema", "rigl", "supermask", "spartan"}) {
    CAPTURE(method);
    std::vector<std::string> overrides = test::sparsity_overrides(method);
    if (method == "blast" || method == "ema")
      overrides.emplace_back("sparsity.0.regrow=swap");
    const Recipe recipe = runs.recipe(method, overrides);
    const std::string expected =
        line_of(dry_run_report(recipe, 1, make_cpu_stream()), "FLOPs of the run");
    test::run_training(recipe, alone);
    const double counted =
        load_trained_model(runs.directory(method), make_cpu_stream()).progress.flops;
    CHECK(expected.starts_with(fmt::format("FLOPs of the run {:.4e} over 100 steps", counted)));
  }
}

TEST_CASE("the memory of a run on a GPU is what nvidia-smi shows there, within 3 %") {
  struct Case {
    std::string recipe;
    std::string recompute;
    double gib;  // docs/results/gpu-h100.md
  };
  const std::vector<Case> cases{{"gpt2-124m-cuda", "activations", 16.6},
                                {"gpt2-124m-cuda", "none", 21.2},
                                {"gpt2-774m-cuda", "activations", 28.5},
                                {"gpt2-774m-cuda", "none", 34.1}};
  for (const auto& [recipe, recompute, gib] : cases) {
    CAPTURE(recipe);
    CAPTURE(recompute);
    const std::string report =
        report_of(recipe, {"model.vocab=50304", "train.recompute=" + recompute}, /*ranks=*/1);
    const auto [first, last] = memory_of(report, "most at one time");
    CHECK(std::abs(first / gib - 1) <= 0.03);
    CHECK(first == last);
  }
}

TEST_CASE("a need that is more than there is here is said, of all ranks that share it") {
  const auto gib = [](double n) { return static_cast<std::int64_t>(n * 1024 * 1024 * 1024); };
  const Recipe recipe = load_recipe(kRecipes + "gpt2-124m-cuda.yaml", {"model.vocab=50304"});
  const auto said = [&](const DeviceMemory& here) {
    const std::string report = dry_run_report(recipe, 2, make_cpu_stream(), here);
    return report.find("\n  exceeds ") == std::string::npos ? "" : line_of(report, "  exceeds ");
  };
  CHECK(said({.bytes = gib(8), .of = "cuda:0"})
            .starts_with(" exceeds the 8.0 GiB of cuda:0: 1 rank(s) of "));
  CHECK(said({.bytes = gib(80), .of = "cuda:0"}).empty());
  const auto [needed, last] =
      memory_of(dry_run_report(recipe, 2, make_cpu_stream()), "most at one time");
  CHECK(said({.bytes = gib(2 * needed + 0.01), .ranks = 2}).empty());
  CHECK_FALSE(said({.bytes = gib(2 * needed - 0.01), .ranks = 2}).empty());
}

TEST_CASE("what certainly cannot fit is refused, and nothing else") {
  const double gib = 1024.0 * 1024 * 1024;
  const Recipe recipe = load_recipe(kRecipes + "gpt2-124m-cuda.yaml", {"model.vocab=50304"});
  const double weights = 4.0 * 124475904;  // bytes; as much for gradients, twice that for moments
  const auto error_with = [&](double bytes, int ranks, const auto& check) -> std::string {
    try {
      check(DeviceMemory{
          .bytes = static_cast<std::int64_t>(bytes), .ranks = ranks, .of = "this machine"});
    } catch (const ConfigError& error) {
      return error.what();
    }
    return {};
  };
  const auto training = [&](const DeviceMemory& m) { require_training_fits(recipe, 2, 0, m); };
  const auto model = [&](const DeviceMemory& m) { require_weights_fit(recipe, m); };
  CHECK(error_with(4 * weights, 1, training).empty());
  CHECK(error_with(4 * weights - 1, 1, training) ==
        fmt::format("model: its weights, gradients and moments alone exceed the {:.1f} GiB of this "
                    "machine: 1 rank(s) of {:.1f} GiB",
                    4 * weights / gib, 4 * weights / gib));
  CHECK(error_with(8 * weights, 2, training).empty());
  CHECK_FALSE(error_with(8 * weights - 1, 2, training).empty());
  CHECK(error_with(weights, 1, model).empty());
  CHECK_FALSE(error_with(weights - 1, 1, model).empty());
  CHECK(
      error_with(weights - 1, 1, training).starts_with("model: its dense starting weights alone"));
}

TEST_CASE("late in a schedule less has to fit") {
  const Recipe recipe =
      load_recipe(kRecipes + "gpt2-xl-blast.yaml",
                  {"model.vocab=50304", "train.steps=100", "optim.schedule.warmup=0"});
  const SparseModel shapes = build_model(recipe, make_cpu_stream(), Build::kShapesOnly);
  const auto needed = [&](std::int64_t step) {
    const MemoryEstimate m =
        estimate_memory(recipe, 1, stored_model(recipe, 1, shapes, parameter_rows(shapes), step));
    return static_cast<std::int64_t>(m.weights + m.gradients + m.moments);
  };
  const DeviceMemory memory{.bytes = needed(99), .of = "cuda:0"};
  CHECK(needed(99) < needed(0));
  CHECK_THROWS_AS(require_training_fits(recipe, 1, 0, memory), ConfigError);
  CHECK_NOTHROW(require_training_fits(recipe, 1, 99, memory));
}

TEST_CASE("the memory table follows precision, moments, ranks and micro-batches") {
  const double gib = 1024.0 * 1024 * 1024;
  const double parameters = 124475904;  // of GPT-2 124M with 50304 tokens
  auto report = [&](std::vector<std::string> overrides) {
    overrides.emplace_back("model.vocab=50304");
    return report_of("gpt2-124m-cuda", std::move(overrides));
  };
  const std::string plain = report({});
  CHECK(near(memory_of(plain, "weights").first, 4 * parameters / gib));
  CHECK(near(memory_of(plain, "copies").first, 2 * parameters / gib));
  CHECK(near(memory_of(plain, "gradients").first, 4 * parameters / gib));
  CHECK(near(memory_of(plain, "moments").first, 8 * parameters / gib));
  CHECK(near(memory_of(report({"optim.shard=true"}), "moments").first, 4 * parameters / gib));
  CHECK(near(memory_of(report({"optim.shard=true", "optim.moments=bfloat16"}), "moments").first,
             2 * parameters / gib));
  CHECK(report({"train.precision=fp32"}).find("copies") == std::string::npos);
  // A block keeps 12 values of the model's width a token, its norms 2, and the last norm 2.
  const double values = 32.0 * 1024 * 768 * 2 / gib;
  const double lse = 32.0 * 1024 * 12 * 12 * 4 / gib;
  CHECK(near(memory_of(plain, "activations").first, (12 * 12 + 2) * values + lse));
  CHECK(near(memory_of(report({"train.recompute=elementwise"}), "activations").first,
             (12 * 10 + 1) * values + lse));
  CHECK(near(memory_of(report({"train.micro_batch=8"}), "activations").first,
             ((12 * 12 + 2) * values + lse) / 4));
  // Gradients add up over micro-batches: then they are all there beside the activations.
  const std::string micro = report({"train.micro_batch=8"});
  double sum = 0;
  for (const char* part :
       {"weights", "copies", "moments", "gradients", "activations", "what comes", "CUDA"}) {
    sum += memory_of(micro, part).first;
  }
  CHECK(std::abs(memory_of(micro, "most").first - sum) <= 5e-3);
}

TEST_CASE("dead blocks need no memory, where they are not stored") {
  const std::string report = report_of("gpt-tiny-blast");
  const auto [weights, weights_at_last] = memory_of(report, "weights");
  CHECK(weights_at_last < 0.6 * weights);
  CHECK(memory_of(report, "dense gradients").first > 0);
  CHECK(memory_of(report, "dense gradients").second == 0);
  // Where no micro-batches add up one matrix at a time, and blocks that grow: none, all are live.
  const double one_by_one = memory_of(report, "dense gradients").first;
  const double all =
      memory_of(report_of("gpt-tiny-blast", {"train.micro_batch=1"}), "dense gradients").first;
  const double matrix = 4.0 * 256 * 1024 / (1 << 30);
  CHECK(near(all, 8 * matrix));
  CHECK(near(one_by_one, matrix));
}

TEST_CASE("dense copies of live blocks are counted where products go through dense ones") {
  const auto xl = [](std::vector<std::string> overrides) {
    overrides.insert(overrides.end(), {"run.device=cuda", "train.precision=bf16"});
    return report_of("gpt2-xl-blast-400", std::move(overrides), /*ranks=*/1);
  };
  // Dense at first, and at 90 % in the end. Four matrices of 1600 × 1600 a block and two of
  // 6400 × 1600, 2 bytes an element.
  const double all = 48 * (4 * 1600.0 * 1600 + 2 * 6400.0 * 1600) * 2 / (1 << 30);
  const std::string kept = xl({});
  CHECK(near(memory_of(kept, "dense copies").first, all));
  CHECK(memory_of(kept, "dense copies").second == 0);
  const std::string anew = xl({"run.keep_folded=false"});
  CHECK(anew.find("dense copies") == std::string::npos);
  CHECK(std::abs(memory_of(kept, "most").first - memory_of(anew, "most").first - all) <= 2e-3);
  CHECK(memory_of(kept, "most").second == memory_of(anew, "most").second);
  CHECK(report_of("gpt-tiny-blast").find("dense copies") == std::string::npos);  // on the CPU
}

TEST_CASE("ranks that cannot share the batch are refused") {
  const Recipe recipe = load_recipe(kRecipes + "gpt-tiny-dense.yaml", {"model.vocab=1024"});
  CHECK_THROWS_AS(dry_run_report(recipe, /*ranks=*/3, make_cpu_stream()), ConfigError);
}

}  // namespace hew::train
