#include <doctest/doctest.h>

#include "kernels/bsr_routes.h"
#include "tests/support/device.h"
#include "tests/support/sizes.h"
#include "tests/train/tiny_run.h"

/// Whole runs whose block-sparse products go through dense ones, with W kept for all products of a
/// step or folded anew by each.
namespace hew::test {
namespace {

constexpr const char* kEnd = "checkpoints/step-00000020.h5";

std::vector<std::string> precisions() {
  if (!on_gpu())
    return {"fp32"};
  if (small_sizes())
    return {"bf16"};
  return {"fp32", "tf32", "bf16"};
}

// Micro-batches, refreshes, evaluations of weights and of averages, and a resume.
void run(const train::Recipe& recipe) {
  dist::LocalCommunicator alone;
  const auto go = [&](const train::TrainOptions& options) {
    const Stream stream = make_stream(test_stream().device);
    stream.state->get<kernels::BsrSettings>(stream).folding = kernels::BsrFolding::kFolded;
    run_training(recipe, alone, options, stream);
  };
  go({.stop_after = 10});
  go({.resume = true});
}

void check(const TinyRuns& runs, const std::string& name, std::vector<std::string> overrides) {
  run(runs.recipe(name + "-kept", overrides));
  overrides.emplace_back("run.keep_folded=false");
  run(runs.recipe(name + "-anew", overrides));
  const auto kept = runs.directory(name + "-kept");
  const auto anew = runs.directory(name + "-anew");
  CHECK(first_difference(kept / kEnd, anew / kEnd) == "");
  CHECK(losses_of(kept) == losses_of(anew));
  const auto evaluations = evaluations_of(kept);
  CHECK(evaluations.size() >= 4);
  REQUIRE(evaluations.size() == evaluations_of(anew).size());
  for (std::size_t i = 0; i < evaluations.size(); ++i)
    CHECK(evaluations[i].loss == evaluations_of(anew)[i].loss);
}

}  // namespace

TEST_CASE("a run whose products share dense weights is, to the last byte, one in which none do") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  // On the CPU no product goes through a dense one.
  const bool few = !on_gpu() || small_sizes();
  for (const std::string method : {"blast", "supermask", "spartan", "rigl"}) {
    if (few && method != "blast")
      continue;
    for (const std::string& precision : precisions()) {
      for (const std::string recompute : {"none", "blocks"}) {
        if (few && recompute == "none")
          continue;
        CAPTURE(method);
        CAPTURE(precision);
        CAPTURE(recompute);
        std::vector<std::string> overrides = sparsity_overrides(method);
        overrides.insert(
            overrides.end(),
            {"train.steps=20", "checkpoint.every=10", "train.micro_batch=4", "train.eval_every=5",
             "train.eval_batches=2", "train.precision=" + precision, "train.recompute=" + recompute,
             // Evaluated are the weights, or models that share the averages' memory.
             std::string("train.ema=") + (recompute == "none" ? "0" : "0.9")});
        if (method == "blast" || method == "rigl")
          overrides.emplace_back("sparsity.0.every=3");
        check(runs, fmt::format("{}-{}-{}", method, precision, recompute), overrides);
      }
    }
  }
}

}  // namespace hew::test
