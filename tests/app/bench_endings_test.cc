#include "app/bench_endings.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/app/bench_refusal.h"
#include "tests/support/device.h"

namespace hew {
namespace {

BenchEndingsOptions small() {
  return {.device = test::on_gpu() ? "cuda" : "cpu",
          .shapes = {"vitb_fc1"},
          .tokens = 65,
          .blocks = {32, 64},
          .sparsities = {0.9},
          .repeats = 1};
}

}  // namespace

TEST_CASE("bench endings times every ending of both products") {
  BenchEndingsOptions options = small();
  std::vector<std::string> lines;
  const auto keep = [&](const std::string& line) { lines.push_back(line); };
  bench_endings(options, keep);
  CHECK(lines.size() == 1 + 2 * (4 + 3));
  lines.clear();
  options.json = true;
  bench_endings(options, keep);
  std::set<std::string> endings;
  for (const std::string& line : lines) {
    const auto object = nlohmann::json::parse(line);
    endings.insert(object.at("product").get<std::string>() + object.at("ending").dump());
    for (const char* key : {"bare_ms", "ms", "over"}) CHECK(object.at(key).get<double>() > 0);
    CHECK(object.at("M") == 65);
  }
  CHECK(endings.size() == 7);
}

TEST_CASE("bench endings names a wrong option") {
  const auto refusal = [](const auto& change) {
    return test::refusal_of(bench_endings, small(), change);
  };
  CHECK(refusal([](auto& o) { o.blocks = {12}; }).starts_with("--blocks 12: "));
  CHECK(refusal([](auto& o) { o.sparsities = {1.0}; }).starts_with("--sparsity 1: "));
  CHECK(refusal([](auto& o) { o.tokens = 0; }).starts_with("--tokens 0: expected 1 to 1000000000"));
  CHECK(refusal([](auto& o) { o.shapes = {"none"}; }).starts_with("--shape none: "));
}

}  // namespace hew
