#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "kernels/bsr_routes.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/product.h"
#include "tests/support/sizes.h"
#include "tests/train/refresh_scores.h"
#include "tests/train/tiny_run.h"

/// Ten steps of a block-sparse GPT-2, refreshes among them, on the tests' device and in each
/// precision it has, against the CPU's in float64.
namespace hew::test {
namespace {

constexpr int kSteps = 10;
constexpr double kLearningRate = 1e-3;
constexpr double kNormError = 64 * 64;  // roundings of a sum of a block's squares, at most

constexpr int kRefreshEvery = 3;

// What products do to their factors: they multiply them as they are, and masks agree to the last
// block; or round them, and scores err by some per cent. Then runs part at the first block that is
// as good as another, and only what a refresh makes of its own run's state can be compared.
enum class Factors { kExact, kRounded };

struct Precision {
  std::string name;
  Factors factors = Factors::kExact;
  double roundoff = 0;

  // Of a gradient or a logit, relative to what is typical of them: 5 standard deviations of a
  // random walk. Gradients come through about 20 products; where factors are exact, it is the sums
  // that err, over 128 tokens or 256 features.
  double relative_error() const { return 5 * deviation(); }
  // Of the norm of a b×b block of a gradient, relative to it: the norm of the elements' errors at
  // most. Of their squares at least b, one a row, are independent, so that their root mean square
  // is within 5 standard deviations, of 1/√(2b) each, of what is expected.
  double norm_error(std::int64_t block) const {
    return (1 + 5 / std::sqrt(2 * static_cast<double>(block))) * deviation();
  }

 private:
  double deviation() const {
    return std::sqrt(20.0 * (factors == Factors::kExact ? 256 : 1)) * roundoff;
  }
};

std::vector<Precision> precisions(Factors factors) {
  const auto of = [factors](const char* name, double roundoff) {
    return Precision{.name = name, .factors = factors, .roundoff = roundoff};
  };
  const double u32 = unit_roundoff(DType::kFloat32);
  if (!on_gpu())
    return factors == Factors::kExact ? std::vector{of("fp32", u32)} : std::vector<Precision>{};
  if (factors == Factors::kRounded)
    return {of("tf32", 0x1p-11), of("bf16", unit_roundoff(DType::kBFloat16))};
  return {of("fp32", u32), of("fp64", unit_roundoff(DType::kFloat64))};
}

std::vector<std::string> ten_steps(std::int64_t block, Factors factors, std::string_view name) {
  return {fmt::format("train.steps={}", kSteps), fmt::format("train.precision={}", name),
          fmt::format("checkpoint.every={}", kRefreshEvery), "model.width=256",
          "model.mlp_width=256", fmt::format("optim.lr={}", kLearningRate),
          "optim.schedule.warmup=0",
          // As large as gradients are here: where AdamW divides noise by noise, nothing compares.
          "optim.eps=1e-3",
          fmt::format("sparsity=[{{match: [blocks.*.attn.*.weight, blocks.*.mlp.*.weight], "
                      "block: {}, method: blast, every: {}, regrow: swap, swap_fraction: {}, "
                      "schedule: {{initial: 0.5, final: 0.7, end: 90%}}}}]",
                      block, kRefreshEvery, factors == Factors::kExact ? 0.9 : 0.3)};
}

std::filesystem::path checkpoint(const std::filesystem::path& run, int step) {
  return run / fmt::format("checkpoints/step-{:08}.h5", step);
}

struct Outcome {
  std::vector<double> losses;
  train::TrainedModel start;  // both on the CPU
  train::TrainedModel end;
};

using Change = std::function<void(train::TrainedModel&)>;

// Of a recipe, from a start that `change` changes; without a detour over dense products.
Outcome outcome_of(const train::Recipe& recipe, const Stream& stream, const Change& change) {
  dist::LocalCommunicator alone;
  const std::filesystem::path run = recipe.run.dir;
  run_training(recipe, alone, {.stop_after = 0}, stream);
  rewrite_checkpoint(checkpoint(run, 0), change);
  stream.state->get<kernels::BsrSettings>(stream).folding = kernels::BsrFolding::kOwn;
  run_training(recipe, alone, {.resume = true}, stream);
  const Stream cpu = make_cpu_stream();
  return {.losses = losses_of(run),
          .start = train::load_trained_model(checkpoint(run, 0), cpu),
          .end = train::load_trained_model(run, cpu)};
}

std::vector<sparsity::LinearWeight*> sparse_weights(const train::TrainedModel& model) {
  std::vector<sparsity::LinearWeight*> out;
  for (const sparsity::Sparsifier::Target& target : model.parts.sparsifier->targets()) {
    out.push_back(target.weight);
  }
  return out;
}

struct Agreement {
  bool losses = true;
  bool masks = true;
  bool weights = true;
  std::string text = {};  // what does not agree

  bool all() const { return losses && masks && weights; }
};

// A weight's blocks of a pattern, in float64.
Tensor blocks_of(const sparsity::LinearWeight& weight, const sparsity::BsrPattern& pattern) {
  return gather(widen(weight.folded()), pattern);
}

void compare_weight(const sparsity::LinearWeight& got, const sparsity::LinearWeight& wanted,
                    const Precision& precision, Agreement& out) {
  const sparsity::BsrPattern& own = *got.pattern();
  const sparsity::MaskBytes other = wanted.pattern()->mask();
  sparsity::MaskBytes shared = own.mask();
  for (std::size_t i = 0; i < shared.size(); ++i) shared[i] &= other[i];
  const sparsity::BsrPattern both(own.grid(), shared, make_cpu_stream());
  const std::int64_t live = wanted.pattern()->nnzb();
  if (own.nnzb() != live || (precision.factors == Factors::kExact && both.nnzb() != live)) {
    out.masks = false;
    out.text += fmt::format("{}: {} live blocks of {} in common with {}\n", got.name(), both.nnzb(),
                            own.nnzb(), live);
  }
  REQUIRE(both.nnzb() > 0);  // else nothing would be compared
  // A quotient of moments errs by as much as both of them; each step rounds the stored weight.
  const Comparison weights = compare(blocks_of(got, both), blocks_of(wanted, both),
                                     kSteps * unit_roundoff(got.parameter().value().dtype()),
                                     kSteps * kLearningRate * 2 * precision.relative_error());
  if (!weights.ok) {
    out.weights = false;
    out.text += fmt::format("{}: {}\n", got.name(), weights.text);
  }
}

// What the run's refreshes did to its own weights and gradients that rounding does not explain.
std::string wrong_refreshes(const std::filesystem::path& run, const Precision& precision) {
  std::string text;
  const Stream cpu = make_cpu_stream();
  for (int step = 0; step < kSteps; step += kRefreshEvery) {
    const std::vector<RefreshScores> scores = refresh_scores(checkpoint(run, step));
    const train::TrainedModel next =
        train::load_trained_model(checkpoint(run, std::min(step + kRefreshEvery, kSteps)), cpu);
    const auto weights = sparse_weights(next);
    const double own = unit_roundoff(weights.front()->parameter().value().dtype());
    const Precision here{.name = "cpu", .factors = Factors::kExact, .roundoff = own};
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const std::int64_t block = weights[i]->pattern()->grid().block;
      const double error = precision.norm_error(block) + here.norm_error(block);
      text += scores[i].unexplained(weights[i]->pattern()->mask(), error, kNormError * own);
    }
  }
  return text;
}

Agreement compare_runs(const Outcome& got, const Outcome& wanted, const Precision& precision) {
  Agreement out;
  const Stream cpu = make_cpu_stream();
  const auto tensor = [&cpu](const std::vector<double>& losses) {
    return Tensor::from(losses, {std::ssize(losses)}, cpu);
  };
  // Logits are about 1 at most, and a loss errs by no more than they.
  const Comparison losses = compare(tensor(got.losses), tensor(wanted.losses), precision.roundoff,
                                    precision.relative_error());
  if (!losses.ok) {
    out.losses = false;
    out.text += "losses: " + losses.text + "\n";
  }
  const auto expected = sparse_weights(wanted.end);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    compare_weight(*sparse_weights(got.end)[i], *expected[i], precision, out);
    const sparsity::LinearWeight& first = *sparse_weights(got.start)[i];
    if (first.pattern()->mask() == sparse_weights(wanted.start)[i]->pattern()->mask())
      continue;
    out.masks = false;
    out.text += first.name() + ": other blocks are live before the first step\n";
  }
  return out;
}

void change_nothing(train::TrainedModel&) {}

// One live block is a quarter larger.
void change_block(train::TrainedModel& trained) {
  Tensor& values = sparse_weights(trained).back()->parameter().var.mutable_value();
  kernels::scale(1.25, values.rows(1, 1), values.stream());
}

// One entry of the index is another: a live block lies one block column further on, where none did.
void change_index(train::TrainedModel& trained) {
  sparsity::LinearWeight& weight = *sparse_weights(trained).back();
  const sparsity::BlockGrid& grid = weight.pattern()->grid();
  sparsity::MaskBytes mask = weight.pattern()->mask();
  const auto cols = static_cast<std::size_t>(grid.block_cols());
  std::size_t i = 0;
  while (mask.at(i) == 0 || mask.at(i + 1) == 1 || (i + 1) % cols == 0) ++i;
  std::swap(mask[i], mask[i + 1]);
  const Tensor values = weight.parameter().value();
  weight.restore(sparsity::Storage::kLiveBlocks,
                 std::make_shared<const sparsity::BsrPattern>(grid, mask, values.stream()), values,
                 Tensor());
}

// How many blocks refreshes have brought in.
std::int64_t grown_blocks(const Outcome& outcome) {
  std::int64_t grown = 0;
  const auto start = sparse_weights(outcome.start);
  for (std::size_t i = 0; i < start.size(); ++i) {
    const sparsity::BsrPattern& end = *sparse_weights(outcome.end)[i]->pattern();
    grown += std::ranges::count(end.sources_in(*start[i]->pattern()), -1);
  }
  return grown;
}

// A model with its parameters rounded as a product rounds its factors.
void round_to(train::TrainedModel& trained, int bits) {
  for (ag::Parameter* parameter : trained.parts.model->parameters()) {
    Tensor& value = parameter->var.mutable_value();
    std::vector<double> values = value.to_vector<double>();
    for (double& v : values) {
      int exponent = 0;
      const double scale = std::ldexp(1.0, bits);
      const double mantissa = std::frexp(v, &exponent);
      v = std::ldexp(std::nearbyint(mantissa * scale) / scale, exponent);
    }
    value = Tensor::from(values, value.shape(), value.stream());
  }
}

// What a refresh of the step after a checkpoint makes of rounded weights, against exact ones.
void check_rounding(const std::filesystem::path& path, std::int64_t block, int bits) {
  CAPTURE(path);
  CAPTURE(bits);
  const Precision precision{
      .name = "", .factors = Factors::kRounded, .roundoff = std::ldexp(1.0, -bits)};
  const std::vector<RefreshScores> exact = refresh_scores(path);
  const std::vector<RefreshScores> rounded =
      refresh_scores(path, [bits](train::TrainedModel& trained) { round_to(trained, bits); });
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const RefreshScores& scores = exact[i];
    const double error = precision.norm_error(block);
    for (std::size_t b = 0; b < scores.growth.size(); ++b) {
      CHECK(std::abs(scores.growth[b] - rounded[i].growth[b]) <=
            error * std::max(scores.growth[b], scores.typical_gradient()));
    }
    // Of a sum of b² squares, each of them rounded: 5 standard deviations.
    const double weight_error = 5 * precision.roundoff / static_cast<double>(block);
    const auto explained = [&](const sparsity::MaskBytes& mask) {
      return scores.unexplained(mask, error, weight_error).empty();
    };
    CHECK(explained(rounded[i].live));
    sparsity::MaskBytes wrong = scores.live;
    wrong[static_cast<std::size_t>(sparsity::top_k(scores.weight, 1).front())] = 0;
    CHECK_FALSE(explained(wrong));
    if (scores.growth.empty())
      continue;
    std::size_t least = 0;  // of those that are dead
    double norm = INFINITY;
    for (std::size_t b = 0; b < scores.growth.size(); ++b) {
      if (scores.live[b] == 0 && scores.kept[b] == 0 && scores.growth[b] < norm) {
        least = b;
        norm = scores.growth[b];
      }
    }
    wrong = scores.live;
    wrong[least] = 1;
    CHECK_FALSE(explained(wrong));
  }
}

}  // namespace

// The CPU has no product that rounds its factors; weights that are rounded before are half of them.
TEST_CASE("what rounded weights do to a refresh is explained, and a wrong block is not") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::int64_t block : {32, 64}) {
    std::vector<std::string> overrides = ten_steps(block, Factors::kRounded, "fp64");
    overrides.emplace_back("run.device=cpu");
    const train::Recipe recipe = runs.recipe(fmt::format("run-{}", block), overrides);
    outcome_of(recipe, make_cpu_stream(), change_nothing);
    for (int step = 0; step < kSteps; step += kRefreshEvery) {
      for (const int bits : {11, 8})  // tf32, bf16
        check_rounding(checkpoint(recipe.run.dir, step), block, bits);
    }
  }
}

TEST_CASE("ten sparse steps go as on the CPU in float64, and one wrong block is found") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::int64_t block : {32, 64}) {
    for (const Factors factors : {Factors::kExact, Factors::kRounded}) {
      if (precisions(factors).empty() || (small_sizes() && block != 32))
        continue;
      CAPTURE(block);
      const std::string name = fmt::format("{}-{}", block, static_cast<int>(factors));
      std::vector<std::string> overrides = ten_steps(block, factors, "fp64");
      overrides.emplace_back("run.device=cpu");
      const Outcome reference =
          outcome_of(runs.recipe(name, overrides), make_cpu_stream(), change_nothing);
      REQUIRE(reference.losses.size() == kSteps);
      REQUIRE(refreshes_of(runs.directory(name)).size() >= 3);
      if (factors == Factors::kExact)
        REQUIRE(grown_blocks(reference) > 0);
      for (const Precision& precision : precisions(factors)) {
        CAPTURE(precision.name);
        const auto train = [&](const char* fault, const Change& change) {
          const train::Recipe recipe =
              runs.recipe(fmt::format("{}-{}-{}", name, precision.name, fault),
                          ten_steps(block, factors, precision.name));
          const Outcome outcome = outcome_of(recipe, make_stream(test_stream().device), change);
          return compare_runs(outcome, reference, precision);
        };
        const Agreement good = train("good", change_nothing);
        CHECK_MESSAGE(good.all(), good.text);
        const std::string wrong = wrong_refreshes(
            runs.directory(fmt::format("{}-{}-good", name, precision.name)), precision);
        CHECK_MESSAGE(wrong.empty(), wrong);
        const Agreement wrong_block = train("block", change_block);
        CHECK_FALSE(wrong_block.weights);
        const Agreement wrong_index = train("index", change_index);
        CHECK_FALSE(wrong_index.masks);
        // What a wrong block does to the losses is more than sums err.
        CHECK((factors == Factors::kRounded || !(wrong_block.losses || wrong_index.losses)));
      }
    }
  }
}

}  // namespace hew::test
