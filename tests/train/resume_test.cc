#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/device.h"
#include "tests/support/sizes.h"
#include "tests/train/tiny_run.h"
#include "train/trained_model.h"

namespace hew::test {
namespace {

constexpr const char* kMiddle = "checkpoints/step-00000050.h5";
constexpr const char* kEnd = "checkpoints/step-00000100.h5";

}  // namespace

TEST_CASE("100 steps are 50 steps, a resume and 50 more, to the last byte") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"blast", "supermask", "spartan", "rigl", "ema"}) {
    CAPTURE(method);
    if (small_sizes() && method != "blast")
      continue;
    std::vector<std::string> sparsity = sparsity_overrides(method);
    if (method == "rigl")
      sparsity.emplace_back("optim.moments=bfloat16");
    check_resume(runs.recipe(method + "-whole", sparsity),
                 runs.recipe(method + "-halves", sparsity), /*middle=*/50, alone);
  }
}

TEST_CASE("a run that stops after 0 steps keeps the untrained model, and goes on from there") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"blast", "supermask", "spartan"}) {
    CAPTURE(method);
    std::vector<std::string> overrides = sparsity_overrides(method);
    overrides.insert(overrides.end(), {"train.steps=10", "checkpoint.every=10"});
    run_training(runs.recipe(method + "-whole", overrides), alone);
    const train::Recipe recipe = runs.recipe(method + "-later", overrides);
    run_training(recipe, alone, {.stop_after = 0});
    const train::TrainedModel untrained =
        train::load_trained_model(runs.directory(method + "-later"), test_stream());
    CHECK(untrained.progress.steps == 0);
    CHECK(losses_of(runs.directory(method + "-later")).empty());
    run_training(recipe, alone, {.resume = true, .stop_after = 0});  // nothing to do
    run_training(recipe, alone, {.resume = true});
    constexpr const char* kLast = "checkpoints/step-00000010.h5";
    CHECK(first_difference(runs.directory(method + "-whole") / kLast,
                           runs.directory(method + "-later") / kLast) == "");
  }
}

TEST_CASE("a resume without the state of the random numbers is found out") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  const std::vector<std::string> sparsity = sparsity_overrides("blast");
  run_training(runs.recipe("whole", sparsity), alone);
  for (const bool forget : {false, true}) {
    const std::string name = forget ? "forgetful" : "faithful";
    const train::Recipe recipe = runs.recipe(name, sparsity);
    run_training(recipe, alone, {.stop_after = 50});
    rewrite_checkpoint(runs.directory(name) / kMiddle, [forget](train::TrainedModel& trained) {
      if (forget)
        trained.progress.rng_step = 0;
    });
    run_training(recipe, alone, {.resume = true});
    const std::string difference =
        first_difference(runs.directory("whole") / kEnd, runs.directory(name) / kEnd);
    CHECK(difference.empty() == !forget);
  }
}

TEST_CASE("a GPU's choices of products are kept, and there before a resume computes anything") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  const train::Recipe recipe = runs.recipe("run", {"train.steps=20"});
  run_training(recipe, alone, {.stop_after = 10});
  const auto path = runs.directory("run") / "checkpoints/step-00000010.h5";
  const std::string choices = train::Checkpoint(path).product_choices();
  CHECK(choices.empty() == !on_gpu());
  CHECK(H5Reader(path).exists("product_choices") == on_gpu());
  const Stream stream = make_stream(test_stream().device);
  const train::StopSignal stop_signal;
  const train::Trainer resumed(recipe, {.resume = true}, alone, stop_signal, stream);
  CHECK(train::product_choices(stream) == choices);
}

TEST_CASE("choices of products come back from a checkpoint, and damaged ones name the file") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  run_training(runs.recipe("run", {}), alone, {.stop_after = 0});
  const train::TrainedModel loaded =
      train::load_trained_model(runs.directory("run"), test_stream());
  for (const std::string text : {"", "a line\nand another\n"}) {
    const auto path = scratch / "with.h5";
    train::save_checkpoint(path, {.recipe = loaded.recipe,
                                  .progress = loaded.progress,
                                  .data = loaded.data,
                                  .model = *loaded.parts.model,
                                  .sparsifier = *loaded.parts.sparsifier,
                                  .optimizer = {},
                                  .product_choices = text});
    const train::Checkpoint checkpoint(path);
    CHECK(checkpoint.product_choices() == text);
    const std::string error =
        data_error_of([&] { checkpoint.restore_product_choices(test_stream()); });
    const bool refused = on_gpu() && !text.empty();
    CHECK(error.starts_with(path.string()) == refused);
  }
}

TEST_CASE("the realised sparsity at the end is the target, exactly") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"blast", "magnitude", "ema"}) {
    run_training(runs.recipe(method, sparsity_overrides(method)), alone);
    const train::TrainedModel trained =
        train::load_trained_model(runs.directory(method), test_stream());
    CHECK(trained.parts.sparsifier->targets().size() == 4);
    for (const sparsity::Sparsifier::Target& target : trained.parts.sparsifier->targets()) {
      const sparsity::BsrPattern& pattern = *target.weight->pattern();
      CHECK(pattern.nnzb() == sparsity::live_blocks(pattern.grid().blocks(), 0.7));
      CHECK(target.weight->storage() == sparsity::Storage::kLiveBlocks);
    }
  }
}

TEST_CASE("metrics hold the loss of an evaluation, not that of the step before it") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  const train::Recipe recipe = runs.recipe("run", {"train.steps=10"});
  run_training(recipe, alone);
  const train::TrainedModel trained =
      train::load_trained_model(runs.directory("run"), test_stream());
  const auto valid = std::make_shared<const TokenCorpus>(TokenCorpus::open(recipe.data.valid));
  const train::Evaluation expected =
      train::evaluate(layers::as_language_model(*trained.parts.model), valid,
                      {.batch = 8, .max_windows = recipe.train.eval_batches * recipe.train.batch},
                      alone, test_stream());
  const std::vector<train::Evaluation> logged = evaluations_of(runs.directory("run"));
  REQUIRE(logged.size() == 1);
  CHECK(logged.front().tokens == expected.tokens);
  CHECK(std::abs(logged.front().loss - expected.loss) <= 1e-5);
}

TEST_CASE("a run learns, and a new run never overwrites an old one") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  const train::Recipe recipe = runs.recipe("once", {});
  run_training(recipe, alone);
  const std::vector<double> losses = losses_of(runs.directory("once"));
  REQUIRE(losses.size() == 100);
  CHECK(losses.front() >= 5.0);
  CHECK(losses.back() <= 3.0);
  CHECK(data_error_of([&] { run_training(recipe, alone); }).find("holds a run already") !=
        std::string::npos);
}

}  // namespace hew::test
