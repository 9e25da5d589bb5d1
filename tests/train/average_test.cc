#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "io/hdf5.h"
#include "tests/support/device.h"
#include "tests/support/sizes.h"
#include "tests/train/tiny_run.h"
#include "train/averaged_model.h"
#include "train/evaluation.h"
#include "train/text_workload.h"
#include "train/trained_model.h"

namespace hew::test {
namespace {

constexpr std::int64_t kSteps = 12;
constexpr double kDecay = 0.6;

std::filesystem::path checkpoint_of(const std::filesystem::path& run, std::int64_t step) {
  return run / fmt::format("checkpoints/step-{:08}.h5", step);
}

using Weights = std::map<std::string, std::vector<float>>;

// What a group of a checkpoint holds in float32 datasets.
Weights read_group(const std::filesystem::path& path, const std::string& group) {
  const H5Reader reader(path, "hew-checkpoint", 1);
  Weights out;
  for (const std::string& name : reader.list(group)) {
    if (reader.is_dataset(group + "/" + name))
      out[name] = reader.read_vector<float>(group + "/" + name);
  }
  return out;
}

double worst_difference(const Weights& a, const Weights& b) {
  if (a.size() != b.size() || a.empty())
    return INFINITY;
  double worst = 0;
  for (const auto& [name, values] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second.size() != values.size())
      return INFINITY;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double difference = std::abs(values[i] - other->second[i]);
      if (!(difference <= worst))
        worst = difference;
    }
  }
  return worst;
}

std::vector<std::string> short_run(const std::string& method) {
  std::vector<std::string> overrides = sparsity_overrides(method);
  overrides.insert(overrides.end(),
                   {fmt::format("train.steps={}", kSteps), "optim.schedule.warmup=2",
                    "checkpoint.every=1", "checkpoint.keep=100"});
  return overrides;
}

}  // namespace

TEST_CASE("the averages are those of the weights after each step, scores included") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  std::vector<std::string> overrides = short_run("supermask");
  overrides.emplace_back("sparsity.0.freeze_scores_at=never");
  run_training(runs.recipe("plain", overrides), alone);
  for (const std::int64_t every : {1, 3}) {
    CAPTURE(every);
    constexpr std::int64_t kWarmUp = 3;
    const std::string name = fmt::format("every-{}", every);
    std::vector<std::string> with = overrides;
    with.insert(with.end(),
                {fmt::format("train.ema={}", kDecay), fmt::format("train.ema_every={}", every),
                 fmt::format("train.ema_warmup={}", kWarmUp)});
    run_training(runs.recipe(name, with), alone);
    Weights expected;
    for (std::int64_t step = 1; step <= kSteps; ++step) {
      const auto path = checkpoint_of(runs.directory(name), step);
      const Weights now = read_group(path, "weights");
      // Averaging changes nothing in training.
      CHECK(now == read_group(checkpoint_of(runs.directory("plain"), step), "weights"));
      if (step % every != 0)
        continue;
      const auto t = static_cast<double>(step / every - kWarmUp / every);
      const double decay = step <= kWarmUp ? 0 : std::min(kDecay, (1 + t) / (10 + t));
      for (const auto& [key, values] : now) {
        std::vector<float>& average = expected[key];
        average.resize(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
          average[i] = static_cast<float>(decay * average[i] + (1 - decay) * values[i]);
        }
      }
      CHECK(worst_difference(read_group(path, "averages"), expected) <= 1e-6);
    }
    CHECK(expected.contains("blocks.0.mlp.up.weight.scores"));
    CHECK(worst_difference(
              expected, read_group(checkpoint_of(runs.directory(name), kSteps), "weights")) > 1e-4);
  }
}

TEST_CASE("what is evaluated, during training and from a checkpoint, is the averaged model") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"blast", "supermask", "spartan"}) {
    CAPTURE(method);
    std::vector<std::string> overrides = short_run(method);
    overrides.insert(overrides.end(), {"train.ema=0.8", "sparsity.0.block=8"});
    const train::Recipe recipe = runs.recipe(method, overrides);
    run_training(recipe, alone);
    const train::TrainedModel trained =
        train::load_trained_model(runs.directory(method), test_stream());
    const auto evaluate = [&](const layers::Model& model) {
      return train::evaluate(
                 dynamic_cast<const layers::LanguageModel&>(model),
                 train::open_corpus(recipe.data.valid, trained.recipe.model.vocab),
                 {.batch = 8, .max_windows = recipe.train.eval_batches * recipe.train.batch}, alone,
                 test_stream())
          .loss;
    };
    const std::vector<train::Evaluation> logged = evaluations_of(runs.directory(method));
    REQUIRE(logged.size() == 1);
    CHECK(std::abs(logged.front().loss - evaluate(*trained.parts.model)) <= 1e-5);
    // The weights themselves have another loss.
    const train::Checkpoint checkpoint(checkpoint_of(runs.directory(method), kSteps));
    train::SparseModel plain =
        train::build_model(trained.recipe, test_stream(), train::Build::kShapesOnly);
    checkpoint.restore_model(*plain.model, *plain.sparsifier);
    plain.sparsifier->select_trained_masks(kSteps);
    CHECK(std::abs(logged.front().loss - evaluate(*plain.model)) > 1e-4);
  }
}

TEST_CASE("with averages a run resumes to the last byte") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"blast", "supermask", "spartan", "ema"}) {
    CAPTURE(method);
    if (small_sizes() && method != "spartan")
      continue;
    std::vector<std::string> overrides = sparsity_overrides(method);
    overrides.insert(overrides.end(), {"train.ema=0.95", "train.ema_every=3", "train.ema_warmup=5%",
                                       "train.eval_every=50"});
    run_training(runs.recipe(method + "-whole", overrides), alone);
    const train::Recipe halves = runs.recipe(method + "-halves", overrides);
    run_training(halves, alone, {.stop_after = 50});
    run_training(halves, alone, {.resume = true});
    CHECK(first_difference(checkpoint_of(runs.directory(method + "-whole"), 100),
                           checkpoint_of(runs.directory(method + "-halves"), 100)) == "");
  }
}

}  // namespace hew::test
