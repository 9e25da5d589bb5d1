#include "app/bench_mlp.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/app/bench_refusal.h"
#include "tests/io/scratch.h"
#include "tests/support/device.h"

namespace hew {
namespace {

BenchMlpOptions small() {
  return {.device = test::on_gpu() ? "cuda" : "cpu",
          .tokens = 97,
          .width = 192,
          .hidden = 320,
          .blocks = {16, 64},
          .sparsities = {0.5},
          .repeats = 1};
}

}  // namespace

TEST_CASE("bench mlp times all ways and finds their results right") {
  BenchMlpOptions options = small();
  std::vector<std::string> lines;
  const auto keep = [&](const std::string& line) { lines.push_back(line); };
  bench_mlp(options, keep);
  CHECK(lines.size() == 4);
  lines.clear();
  const test::Scratch scratch;
  options.json = true;
  options.threads = 1;
  options.output = (scratch / "out.jsonl").string();
  bench_mlp(options, keep);
  REQUIRE(lines.size() == 2);
  CHECK(test::read_bytes(options.output) == lines[0] + "\n" + lines[1] + "\n");
  for (const std::string& line : lines) {
    const auto object = nlohmann::json::parse(line);
    for (const char* key : {"fused_seconds", "products_seconds", "auto_seconds", "dense_seconds"})
      CHECK(object.at(key).get<double>() > 0);
    CHECK(object.at("error").get<double>() <= 1e-2);
  }
}

TEST_CASE("bench mlp names a wrong option") {
  const auto refusal = [](const auto& change) {
    return test::refusal_of(bench_mlp, small(), change);
  };
  CHECK(refusal([](auto& o) { o.blocks = {12}; }).starts_with("--blocks 12: "));
  CHECK(refusal([](auto& o) { o.sparsities = {1.0}; }).starts_with("--sparsity 1: "));
  CHECK(refusal([](auto& o) { o.hidden = 0; }).starts_with("--tokens, --width, --hidden: got 0"));
  CHECK(refusal([](auto& o) { o.activation = "tanh"; }).starts_with("[activation] 'tanh' is not "));
}

}  // namespace hew
