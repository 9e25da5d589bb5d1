#include "tests/train/tiny_run.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/rng.h"
#include "data/corpus_writer.h"
#include "io/hdf5.h"
#include "optim/make_optimizer.h"
#include "tests/support/device.h"

namespace hew::test {
namespace {

constexpr const char* kRecipe = R"(
run: {dir: unset, seed: 3, hash_check_every: 7}
model: {family: gpt2, layers: 2, heads: 2, width: 24, mlp_width: 44, context: 16, dropout: 0.1}
data: {train: unset, valid: unset}
train: {steps: 100, batch: 8, log_every: 1}
optim: {lr: 3e-3, schedule: {name: cosine, warmup: 5}}
checkpoint: {every: 50, keep: 5}
)";

std::string made_up_text(std::uint64_t seed, int words) {
  const std::vector<std::string> vocabulary{"the",  "house", "of",   "sparse", "blocks", "stands",
                                            "upon", "a",     "hill", "and",    "waits",  "."};
  std::string text;
  for (int i = 0; i < words; ++i) {
    text += vocabulary[uniform_below(seed, 0, static_cast<std::uint64_t>(i), vocabulary.size())];
    text += ' ';
  }
  return text;
}

void write_corpus(const std::filesystem::path& path, std::uint64_t seed, int words) {
  const ByteTokenizer bytes;
  CorpusWriter writer(path.string(), bytes);
  writer.add_text(made_up_text(seed, words));
  writer.commit();
}

bool same_dataset(const H5Reader& a, const H5Reader& b, const std::string& name,
                  const Stream& stream) {
  const Tensor x = a.read(name, stream);
  const Tensor y = b.read(name, stream);
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.view().data, y.view().data, static_cast<std::size_t>(x.nbytes())) == 0;
}

// Where the choices of products of two checkpoints part, to tell one cause from another.
std::string different_choices(const train::Checkpoint& a, const train::Checkpoint& b) {
  std::istringstream left(a.product_choices());
  std::istringstream right(b.product_choices());
  std::string x;
  std::string y;
  do {
    x = y = "(end)";
    std::getline(left, x);
    std::getline(right, y);
  } while (x == y && left && right);
  return fmt::format("product_choices: '{}' and '{}'", x, y);
}

std::string compare_group(const H5Reader& a, const H5Reader& b, const std::string& group,
                          const Stream& stream) {
  if (a.list(group) != b.list(group))
    return group + " (names)";
  for (const std::string& entry : a.list(group)) {
    const std::string name = group == "/" ? entry : group + "/" + entry;
    if (a.is_dataset(name)) {
      if (!b.is_dataset(name) || !same_dataset(a, b, name, stream))
        return name;
    } else {
      std::string difference = compare_group(a, b, name, stream);
      if (!difference.empty())
        return difference;
    }
  }
  return {};
}

std::vector<nlohmann::json> metrics_of(const std::filesystem::path& run, const std::string& kind) {
  std::vector<nlohmann::json> records;
  std::ifstream in(run / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    nlohmann::json record = nlohmann::json::parse(line);
    if (record["kind"] == kind)
      records.push_back(std::move(record));
  }
  return records;
}

}  // namespace

TinyRuns::TinyRuns(const std::filesystem::path& folder, dist::Communicator& comm)
    : folder_(folder) {
  if (comm.rank() == 0) {
    write_corpus(folder_ / "train.h5", 1, 4000);
    write_corpus(folder_ / "valid.h5", 2, 500);
  }
  comm.barrier();
}

train::Recipe TinyRuns::recipe(const std::string& run,
                               const std::vector<std::string>& overrides) const {
  std::vector<std::string> all{"run.dir=" + directory(run).string(),
                               "data.train=" + (folder_ / "train.h5").string(),
                               "data.valid=" + (folder_ / "valid.h5").string()};
  if (on_gpu())
    all.insert(all.end(), {"run.device=cuda", "run.deterministic=true"});
  all.insert(all.end(), overrides.begin(), overrides.end());
  return train::parse_recipe(kRecipe, "tiny", all);
}

void run_training(const train::Recipe& recipe, dist::Communicator& comm,
                  const train::TrainOptions& options, const Stream& stream) {
  const train::StopSignal stop_signal;
  train::Trainer(recipe, options, comm, stop_signal, stream).run();
}

void run_training(const train::Recipe& recipe, dist::Communicator& comm,
                  const train::TrainOptions& options) {
  // A new stream knows nothing of other runs.
  run_training(recipe, comm, options, make_stream(test_stream().device));
}

std::vector<double> losses_of(const std::filesystem::path& run) {
  std::vector<double> losses;
  for (const nlohmann::json& record : metrics_of(run, "train")) {
    losses.push_back(record["loss"].get<double>());
  }
  return losses;
}

std::vector<double> refreshes_of(const std::filesystem::path& run) {
  std::vector<double> seconds;
  for (const nlohmann::json& record : metrics_of(run, "refresh")) {
    seconds.push_back(record["seconds"].get<double>());
  }
  return seconds;
}

std::vector<train::Evaluation> evaluations_of(const std::filesystem::path& run) {
  std::vector<train::Evaluation> evaluations;
  for (const nlohmann::json& record : metrics_of(run, "eval")) {
    evaluations.push_back({.loss = record["loss"].get<double>(),
                           .tokens = record["tokens"].get<std::int64_t>(),
                           .bits_per_byte = record["bits_per_byte"].get<double>()});
  }
  return evaluations;
}

std::string first_difference(const std::filesystem::path& a, const std::filesystem::path& b) {
  const Stream cpu = make_cpu_stream();
  train::Progress left = train::Checkpoint(a).progress();
  train::Progress right = train::Checkpoint(b).progress();
  left.metrics_bytes = right.metrics_bytes = 0;
  if (!(left == right))
    return "progress";
  const std::string name =
      compare_group(H5Reader(a, "hew-checkpoint", 1), H5Reader(b, "hew-checkpoint", 1), "/", cpu);
  return name == "product_choices" ? different_choices(train::Checkpoint(a), train::Checkpoint(b))
                                   : name;
}

void check_resume(const train::Recipe& whole, const train::Recipe& halves, std::int64_t middle,
                  dist::Communicator& comm) {
  const auto difference_at = [&](std::int64_t step) {
    const std::string file = fmt::format("checkpoints/step-{:08}.h5", step);
    return first_difference(std::filesystem::path(whole.run.dir) / file,
                            std::filesystem::path(halves.run.dir) / file);
  };
  run_training(whole, comm);
  run_training(halves, comm, {.stop_after = middle});
  CHECK(difference_at(middle) == "");
  run_training(halves, comm, {.resume = true});
  CHECK(difference_at(whole.train.steps) == "");
  CHECK(losses_of(whole.run.dir) == losses_of(halves.run.dir));
}

void rewrite_checkpoint(const std::filesystem::path& path,
                        const std::function<void(train::TrainedModel&)>& change) {
  train::TrainedModel trained = train::load_trained_model(path, test_stream());
  change(trained);
  const train::Checkpoint checkpoint(path);
  const auto optimizer =
      optim::make_optimizer(trained.recipe.optim, trained.parts.model->parameters());
  checkpoint.restore_optimizer(*optimizer);
  train::save_checkpoint(path, {.recipe = trained.recipe,
                                .progress = trained.progress,
                                .data = trained.data,
                                .model = *trained.parts.model,
                                .sparsifier = *trained.parts.sparsifier,
                                .optimizer = optimizer->state(),
                                .product_choices = checkpoint.product_choices()});
}

std::vector<std::string> sparsity_overrides(const std::string& method) {
  const std::string common = "match: blocks.*.mlp.*.weight, block: 8, every: 20, ";
  const std::string schedule = "schedule: {name: cubic, initial: 0.1, final: 0.7, end: 75%}";
  const std::string fixed = "schedule: {name: constant, final: 0.6, end: 75%}";
  if (method == "supermask") {
    return {
        "sparsity=[{match: blocks.*.mlp.*.weight, block: 8, method: supermask, "
        "schedule: {name: constant, final: 0.6}, freeze_scores_at: 70%}]"};
  }
  if (method == "spartan") {
    return {
        "sparsity=[{match: blocks.*.mlp.*.weight, block: 8, method: spartan, "
        "schedule: {final: 0.6}, freeze_scores_at: 70%, sharpness: {end: 70%}}]"};
  }
  if (method == "rigl")
    return {"sparsity=[{" + common + "method: rigl, lr_power: 0.5, " + fixed + "}]"};
  if (method == "ema") {
    return {"sparsity=[{" + common + "method: blast, score: ema, lr_power: 0.5, " + schedule +
            "}]"};
  }
  return {"sparsity=[{" + common + "method: " + method + ", " + schedule + "}]"};
}

}  // namespace hew::test
