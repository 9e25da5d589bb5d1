#include "app/bench_model.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "app/bench_model_pair.h"
#include "tests/app/bench_refusal.h"
#include "tests/io/scratch.h"
#include "train/export.h"

namespace hew {
namespace {

// No size is a multiple of the block.
constexpr const char* kRecipe = R"(run: {dir: run, device: cuda}
model: {family: gpt2, layers: 2, heads: 2, width: 36, mlp_width: 100, context: 24, vocab: 101,
        tied_embeddings: false}
data: {train: no-such-corpus.h5}
train: {steps: 50, batch: 8, precision: bf16}
optim: {lr: 1e-3}
sparsity:
  - {match: "blocks.*.mlp.*.weight", block: 16, method: blast, schedule: {name: cubic, final: 0.8}}
  - {match: head.weight, block: 8, method: supermask, schedule: {name: constant, final: 0.5}}
)";

struct Folder {
  test::Scratch scratch;
  std::string recipe = (scratch / "recipe.yaml").string();

  Folder() { test::write_bytes(recipe, kRecipe); }
};

std::vector<nlohmann::json> objects_of(const BenchModelOptions& options) {
  std::vector<nlohmann::json> out;
  bench_model(options,
              [&](const std::string& line) { out.push_back(nlohmann::json::parse(line)); });
  return out;
}

std::string refusal_of(const BenchModelOptions& options) {
  return test::refusal_of(bench_model, options);
}

}  // namespace

TEST_CASE("a recipe's model has masks of each rule's final sparsity, and a dense twin") {
  const Folder folder;
  const ModelPair pair = open_pair({folder.recipe}, "", make_cpu_stream());
  CHECK(name_of(pair.recipe.train.precision) == "fp32");  // a CPU has no bf16
  CHECK(pair.masked_weights == 5);
  CHECK(pair.blocks == std::vector<std::int64_t>{8, 16});
  const auto dense = pair.dense.model->linear_weights();
  const auto sparse = pair.sparse.model->linear_weights();
  for (std::size_t i = 0; i < dense.size(); ++i) {
    CHECK(dense[i]->pattern() == nullptr);
    CHECK(dense[i]->folded().to_vector<float>() == sparse[i]->folded().to_vector<float>());
    if (sparse[i]->name() == "blocks.1.mlp.up.weight")
      CHECK(sparse[i]->pattern()->nnzb() == 4);  // 21 − round(0.8 · 21)
    if (sparse[i]->name() == "head.weight")
      CHECK(sparse[i]->pattern()->nnzb() == 32);  // of 13 · 5: 65 − round(0.5 · 65)
  }
}

TEST_CASE("bench model times dense against blocks and compares their logits") {
  const Folder folder;
  const std::string file = (folder.scratch / "out.jsonl").string();
  const auto rows = objects_of({.words = {folder.recipe, "sparsity.0.block=8"},
                                .batches = {1, 3},
                                .tokens = 7,
                                .repeats = 2,
                                .json = true,
                                .output = file});
  REQUIRE(rows.size() == 2);
  CHECK(rows[1]["batch"] == 3);
  CHECK(rows[1]["blocks"] == std::vector<int>{8});
  for (const auto& row : rows) {
    CHECK(row["dense_seconds"].get<double>() > 0);
    CHECK(row["bsr_seconds"].get<double>() > 0);
    CHECK(row["speedup"].get<double>() ==
          doctest::Approx(row["dense_seconds"].get<double>() / row["bsr_seconds"].get<double>()));
    CHECK(row["difference"].get<double>() < 1e-5);
    CHECK(row["difference"].get<double>() > 0);  // two orders of summing
  }
  std::istringstream written(test::read_bytes(file));
  for (const auto& row : rows) {
    std::string line;
    std::getline(written, line);
    CHECK(nlohmann::json::parse(line) == row);
  }
}

TEST_CASE("bench model of a vision transformer reads no images") {
  const test::Scratch scratch;
  const std::string recipe = (scratch / "vit.yaml").string();
  test::write_bytes(recipe, R"(run: {dir: run}
model: {family: vit, layers: 2, heads: 2, width: 20, patch_size: 4, classes: 7}
data: {train: no-such-images, image: {size: 12, channels: 1}}
train: {steps: 5, batch: 2}
optim: {lr: 1e-3}
sparsity: [{match: [blocks.*.mlp.*.weight, head.weight], block: 8, method: supermask,
            schedule: {final: 0.7}}]
)");
  const auto rows = objects_of({.words = {recipe}, .batches = {1, 3}, .repeats = 1, .json = true});
  REQUIRE(rows.size() == 2);
  CHECK(rows[1]["family"] == "vit");
  CHECK(rows[1]["difference"].get<double>() < 1e-5);
}

TEST_CASE("bench model takes an exported model as well") {
  const Folder folder;
  ModelPair pair = open_pair({folder.recipe}, "", make_cpu_stream());
  train::TrainedModel trained;
  trained.recipe = pair.recipe;
  trained.parts = std::move(pair.sparse);
  const std::string path = (folder.scratch / "model.h5").string();
  train::export_model(trained, path, {});
  const auto rows = objects_of({.words = {path}, .batches = {2}, .repeats = 1, .json = true});
  CHECK(rows.at(0)["difference"].get<double>() < 1e-5);
  CHECK(refusal_of({.words = {path, "model.vocab=3"}}) ==
        "bench model: model.vocab=3 belongs to a recipe, not to " + path);
  CHECK(refusal_of({.words = {path}, .precision = "fp64"}) ==
        "--precision fp64: " + path + " holds weights in float32");
}

TEST_CASE("what bench model cannot do it says before it times anything") {
  const Folder folder;
  CHECK(refusal_of({.words = {folder.recipe, "sparsity=[]"}}) ==
        folder.recipe + ": no matrix of the model is under a mask");
  CHECK(refusal_of({.words = {folder.recipe}, .batches = {0}}) == "--batch 0: expected 1 or more");
  CHECK(refusal_of({.words = {folder.recipe}, .precision = "bf16"}) ==
        "--precision bf16: a CPU has fp32 and fp64");
  CHECK(refusal_of({.words = {folder.recipe}, .precision = "int8"}).find("--precision int8") == 0);
  CHECK(refusal_of({.words = {"nowhere"}}).find("nowhere: no such run") == 0);
  CHECK(refusal_of({.words = {folder.recipe}, .tokens = 25}).find("the limit is 24") !=
        std::string::npos);
  CHECK(refusal_of({.words = {folder.recipe}, .output = "/nowhere/out"}).find("/nowhere/out") == 0);
}

}  // namespace hew
