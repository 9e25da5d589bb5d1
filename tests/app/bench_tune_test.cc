#include "app/bench_tune.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/app/bench_refusal.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

// Two sparse matrices of two shapes in each of two transformer blocks.
constexpr const char* kRecipe = R"(run: {dir: run, device: cuda}
model: {family: gpt2, layers: 2, heads: 2, width: 64, context: 32, vocab: 100}
data: {train: no-such-corpus.h5}
train: {steps: 3, batch: 8, micro_batch: 4, precision: bf16}
optim: {lr: 1e-3}
sparsity: [{match: "blocks.*.mlp.*.weight", block: 16, method: static,
            schedule: {name: constant, final: 0.5}}]
)";

std::string refusal_of(const BenchTuneOptions& options) {
  return test::refusal_of(bench_tune, options);
}

std::string layers_refusal_of(const BenchTuneOptions& options) {
  try {
    tuned_layers(options);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("bench tune has nothing to do on a CPU, and says so") {
  CHECK(refusal_of({.device = "cpu", .shapes = {"all"}, .output = "t.txt"})
            .starts_with("--device cpu: a CPU has one way to compute a block-sparse product"));
}

TEST_CASE("bench tune times the sparse layers of a recipe, each shape once") {
  const test::Scratch scratch;
  const std::string path = scratch / "recipe.yaml";
  test::write_bytes(path, kRecipe);
  const TunedLayers tuned = tuned_layers({.recipe = path});
  CHECK(tuned.dtype == "bf16");
  CHECK(tuned.layers == std::vector<TunedLayer>{
                            {.tokens = 128, .out_features = 64, .in_features = 256, .block = 16},
                            {.tokens = 128, .out_features = 256, .in_features = 64, .block = 16}});
  const TunedLayers changed = tuned_layers(
      {.overrides = {"train.micro_batch=2"}, .recipe = path, .blocks = {32, 8}, .dtype = "tf32"});
  CHECK(changed.dtype == "tf32");
  REQUIRE(changed.layers.size() == 4);
  CHECK(changed.layers[0] ==
        TunedLayer{.tokens = 64, .out_features = 64, .in_features = 256, .block = 8});
  CHECK(tuned_layers({.recipe = path, .tokens = 77}).layers[0].tokens == 77);
  CHECK(layers_refusal_of({.overrides = {"sparsity=[]"}, .recipe = path}) ==
        path + ": no sparsity rule, so nothing to tune");
  CHECK(layers_refusal_of({.overrides = {"train.batchs=2"}, .recipe = path})
            .find("unknown key, did you mean train.batch?") != std::string::npos);
}

TEST_CASE("bench tune times sizes, with the blocks that divide them") {
  const TunedLayers tuned = tuned_layers({.out_features = 96, .in_features = 64, .tokens = 10});
  CHECK(tuned.dtype == "bf16");
  CHECK(tuned.layers == std::vector<TunedLayer>{
                            {.tokens = 10, .out_features = 96, .in_features = 64, .block = 16},
                            {.tokens = 10, .out_features = 96, .in_features = 64, .block = 32}});
  CHECK(tuned_layers({.shapes = {"llama_up"}}).layers.size() == 4);
}

TEST_CASE("bench tune refuses what it cannot time") {
  CHECK(layers_refusal_of({}).starts_with("bench tune: expected one of --recipe, --shape"));
  CHECK(layers_refusal_of({.recipe = "r.yaml", .shapes = {"all"}})
            .starts_with("bench tune: expected one of --recipe, --shape"));
  CHECK(layers_refusal_of({.out_features = 96, .in_features = 64})
            .starts_with("bench tune: expected all of"));
  CHECK(layers_refusal_of({.overrides = {"a=1"}, .shapes = {"all"}})
            .starts_with("bench tune: a=1 belongs to a --recipe"));
  CHECK(layers_refusal_of({.shapes = {"all"}, .blocks = {12}}).starts_with("--blocks 12: "));
  CHECK(layers_refusal_of({.shapes = {"all"}, .densities = {0}}).starts_with("--densities 0: "));
  CHECK(layers_refusal_of({.shapes = {"all"}, .dtype = "fp8"}).starts_with("--dtype fp8: "));
  CHECK(layers_refusal_of({.shapes = {"all"}, .repeats = 0}).starts_with("--repeats 0: "));
  CHECK(layers_refusal_of({.out_features = 50, .in_features = 64, .tokens = 1})
            .find("give --blocks") != std::string::npos);
}

}  // namespace hew
