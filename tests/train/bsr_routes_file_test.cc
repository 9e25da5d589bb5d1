#include "train/bsr_routes_file.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "core/error.h"
#include "tests/support/device.h"
#include "tests/train/tiny_run.h"
#include "train/trained_model.h"

namespace hew::test {
namespace {

kernels::BsrRoutes table(const std::string& device, double own) {
  kernels::BsrRoutes routes(device);
  routes.add({.tokens = 64, .rows = 64, .cols = 32, .block = 8, .nnzb = 4},
             {.own = own, .folded = 1});
  return routes;
}

constexpr const char* kFirst = "checkpoints/step-00000010.h5";
constexpr const char* kSecond = "checkpoints/step-00000020.h5";

std::string kept_in(const std::filesystem::path& checkpoint) {
  const auto routes = train::Checkpoint(checkpoint).bsr_routes();
  return routes ? routes->to_text() : "";
}

}  // namespace

TEST_CASE("a table of measured routes is kept in checkpoints, and a resume goes by that one") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  const std::string path = scratch / "routes.txt";
  const std::string here = train::bsr_routes_device(test_stream());
  const std::string first = table(here, 2).to_text();
  write_bytes(path, first);
  const train::Recipe recipe = runs.recipe("run", {"train.steps=20", "run.bsr_routes=" + path});
  run_training(recipe, alone, {.stop_after = 10});
  CHECK(kept_in(runs.directory("run") / kFirst) == first);
  CHECK(read_bytes(runs.directory("run") / "train.log").find("bsr_routes") == std::string::npos);
  write_bytes(path, table(here, 3).to_text());
  const Stream stream = make_stream(test_stream().device);
  run_training(recipe, alone, {.resume = true}, stream);
  CHECK(train::bsr_routes(stream) == first);
  CHECK(kept_in(runs.directory("run") / kSecond) == first);
}

TEST_CASE("a resume takes the recipe's table where its checkpoint has none") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  run_training(runs.recipe("run", {"train.steps=20"}), alone, {.stop_after = 10});
  CHECK(kept_in(runs.directory("run") / kFirst) == "");
  CHECK_FALSE(H5Reader(runs.directory("run") / kFirst).exists("bsr_routes"));
  const std::string path = scratch / "routes.txt";
  const std::string text = table("another GPU, sm_90", 2).to_text();
  write_bytes(path, text);
  const Stream stream = make_stream(test_stream().device);
  run_training(runs.recipe("run", {"train.steps=20", "run.bsr_routes=" + path}), alone,
               {.resume = true}, stream);
  CHECK(kept_in(runs.directory("run") / kSecond) == text);
  CHECK_FALSE(stream.state->get<kernels::BsrSettings>(stream).routes_count);
  const std::string log = read_bytes(runs.directory("run") / "train.log");
  const std::string said = "run.bsr_routes: measured on another GPU, sm_90, unused on " +
                           train::bsr_routes_device(stream);
  CHECK(log.find(said) != std::string::npos);
  CHECK(log.find(said) == log.rfind(said));
}

TEST_CASE("a wrong table refuses the run before anything is written") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  const std::string path = scratch / "routes.txt";
  const train::Recipe recipe = runs.recipe("run", {"run.bsr_routes=" + path});
  CHECK(data_error_of([&] { run_training(recipe, alone); }).starts_with(path + ": "));
  write_bytes(path, table("cpu", 2).to_text() + "forward\n");
  CHECK(data_error_of([&] {
          run_training(recipe, alone);
        }).starts_with(path + ":3: got 'forward', expected PRODUCT"));
  CHECK_FALSE(std::filesystem::exists(runs.directory("run")));
  CHECK_THROWS_WITH_AS(runs.recipe("run", {"run.bsr_routes=[a, b]"}),
                       doctest::Contains("run.bsr_routes"), ConfigError);
  CHECK_THROWS_WITH_AS(runs.recipe("run", {"run.bsr_route=a"}),
                       doctest::Contains("did you mean run.bsr_routes?"), ConfigError);
  CHECK(train::parse_recipe(train::to_yaml(recipe), "again") == recipe);
}

TEST_CASE("a damaged table in a checkpoint names the file") {
  const Scratch scratch;
  dist::LocalCommunicator alone;
  const TinyRuns runs(scratch.path(), alone);
  run_training(runs.recipe("run", {}), alone, {.stop_after = 0});
  const train::TrainedModel loaded =
      train::load_trained_model(runs.directory("run"), test_stream());
  const auto path = scratch / "with.h5";
  train::save_checkpoint(path, {.recipe = loaded.recipe,
                                .progress = loaded.progress,
                                .data = loaded.data,
                                .model = *loaded.parts.model,
                                .sparsifier = *loaded.parts.sparsifier,
                                .optimizer = {},
                                .bsr_routes = "a line\n"});
  CHECK(data_error_of([&] {
          train::Checkpoint(path).bsr_routes();
        }).starts_with(std::filesystem::path(path).string() + ":bsr_routes:1: got 'a line'"));
}

}  // namespace hew::test
