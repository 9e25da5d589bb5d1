#include "app/bench_refresh.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/app/bench_refusal.h"
#include "tests/io/scratch.h"
#include "tests/support/device.h"

namespace hew {
namespace {

// No size is a multiple of the blocks.
constexpr const char* kRecipe = R"(run: {dir: run, device: cuda}
model: {family: gpt2, layers: 2, heads: 2, width: 136, mlp_width: 200, context: 24, vocab: 101}
data: {train: no-such-corpus.h5}
train: {steps: 50, batch: 8, precision: bf16}
optim: {lr: 1e-3}
sparsity:
  - {match: "blocks.*.mlp.*.weight", block: 32, method: blast, schedule: {name: cubic, final: 0.8}}
  - {match: "blocks.*.attn.*.weight", block: 24, method: rigl,
     schedule: {name: constant, final: 0.5}}
)";

struct Folder {
  test::Scratch scratch;
  std::string recipe = (scratch / "recipe.yaml").string();

  Folder() { test::write_bytes(recipe, kRecipe); }

  BenchRefreshOptions options() const {
    return {.words = {recipe}, .device = test::on_gpu() ? "cuda" : "cpu", .repeats = 1};
  }
};

std::vector<std::string> lines_of(const BenchRefreshOptions& options) {
  std::vector<std::string> lines;
  bench_refresh(options, [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

}  // namespace

TEST_CASE("bench refresh times the parts of one refresh of all matrices") {
  const Folder folder;
  BenchRefreshOptions options = folder.options();
  CHECK(lines_of(options).size() == 4);
  options.json = true;
  options.output = (folder.scratch / "out.jsonl").string();
  const std::vector<std::string> lines = lines_of(options);
  REQUIRE(lines.size() == 1);
  CHECK(test::read_bytes(options.output) == lines.front() + "\n");
  const auto row = nlohmann::json::parse(lines.front());
  CHECK(row["matrices"] == 12);
  CHECK(row["blocks"] == std::vector<int>{24, 32});
  CHECK(row["sparsity"].get<double>() == doctest::Approx(0.65).epsilon(0.05));
  CHECK(row["bytes"].get<std::int64_t>() > 0);
  for (const char* key : {"selection_seconds", "index_seconds", "schedule_seconds", "seconds"}) {
    CHECK(row.at(key).get<double>() > 0);
  }
  CHECK((row["upload_seconds"].get<double>() > 0) == test::on_gpu());
}

TEST_CASE("bench refresh refuses a recipe without masks, and wrong options") {
  const Folder folder;
  const auto refusal = [&](const std::function<void(BenchRefreshOptions&)>& change) {
    return test::refusal_of(bench_refresh, folder.options(), change);
  };
  CHECK(refusal([](auto& o) { o.words.emplace_back("sparsity=[]"); }) ==
        folder.recipe + ": no matrix of the model is under a mask");
  CHECK(refusal([](auto& o) {
          o.words.emplace_back("model.layers=1000000000000");
        }).ends_with("expected an integer ≥ 1 and ≤ 100000"));
  const std::string large =
      refusal([](auto& o) { o.words.emplace_back("model.mlp_width=1000000000000000"); });
  const std::string huge = refusal([](auto& o) {
    o.words.insert(o.words.end(),
                   {"model.layers=10000", "model.width=1000000", "model.mlp_width=1000000"});
  });
  CHECK(large.ends_with("expected an integer ≥ 1 and ≤ 1000000"));
  CHECK_MESSAGE(huge.starts_with("bench refresh: 8.9e+13 blocks need some "), huge);
  CHECK(refusal([](auto& o) { o.words.clear(); }) == "bench refresh: expected a recipe");
  CHECK(refusal([](auto& o) { o.threads = -1; }) == "--threads -1: expected 0 to 4096");
  CHECK(refusal([](auto& o) { o.repeats = 0; }) == "--repeats 0: expected 1 or more");
  CHECK(refusal([](auto& o) { o.output = "/nowhere/out"; }).starts_with("/nowhere/out"));
}

}  // namespace hew
