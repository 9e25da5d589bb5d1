#include "app/bench_endings.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
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
  const auto refuses = [](const BenchEndingsOptions& options) {
    CHECK_THROWS_AS(bench_endings(options, [](const std::string&) {}), ConfigError);
  };
  BenchEndingsOptions options = small();
  options.blocks = {12};
  refuses(options);
  options = small();
  options.sparsities = {1.0};
  refuses(options);
  options = small();
  options.tokens = 0;
  refuses(options);
  options = small();
  options.shapes = {"none"};
  refuses(options);
}

}  // namespace hew
