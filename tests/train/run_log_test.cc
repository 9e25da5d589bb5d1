#include "train/run_log.h"

#include <doctest/doctest.h>

#include <fstream>

#include "tests/train/tiny_run.h"

namespace hew::test {
namespace {

std::int64_t lines_with(const std::filesystem::path& file, const std::string& text) {
  std::ifstream in(file);
  std::int64_t count = 0;
  for (std::string line; std::getline(in, line);) {
    count += line.find(text) != std::string::npos ? 1 : 0;
  }
  return count;
}

}  // namespace

TEST_CASE("the log says once what masks that train cost, by any method, and no more once frozen") {
  const std::string cost = "masks that train need the whole gradients of 4 weights: ";
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"supermask", "spartan", "blast"}) {
    CAPTURE(method);
    std::vector<std::string> overrides = sparsity_overrides(method);
    overrides.insert(overrides.end(), {"train.steps=10", "train.eval_every=0"});
    const train::Recipe recipe = runs.recipe(method, overrides);
    const std::filesystem::path log = runs.directory(method) / "train.log";
    const std::int64_t wanted = method == "blast" ? 0 : 1;
    run_training(recipe, alone, {.stop_after = 7});  // masks freeze in the next step
    CHECK(lines_with(log, cost) == wanted);
    run_training(recipe, alone, {.resume = true, .stop_after = 8});
    CHECK(lines_with(log, cost) == wanted);
  }
}

}  // namespace hew::test
