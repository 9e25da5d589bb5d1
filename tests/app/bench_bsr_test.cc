#include "app/bench_bsr.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace hew {
namespace {

BenchBsrOptions small() {
  return {.tokens = 70,
          .out_features = 96,
          .in_features = 50,
          .blocks = {8, 16},
          .sparsities = {0, 0.5},
          .threads = 1,
          .repeats = 1,
          .json = true};
}

std::vector<std::string> lines_of(const BenchBsrOptions& options) {
  std::vector<std::string> lines;
  bench_bsr(options, [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

}  // namespace

TEST_CASE("bench bsr prints one object for each block, sparsity and product") {
  const std::vector<std::string> lines = lines_of(small());
  REQUIRE(lines.size() == 2 * 2 * 3);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto object = nlohmann::json::parse(lines[i]);
    const std::array<std::string, 3> names{"forward", "input_gradient", "weight_gradient"};
    CHECK(object["product"] == names[i % 3]);
    CHECK(object["M"] == 70);
    CHECK(object["N"] == 96);
    CHECK(object["K"] == 50);
    CHECK(object["block"] == (i < 6 ? 8 : 16));
    CHECK(object["sparsity"].get<double>() == doctest::Approx(i % 6 < 3 ? 0 : 0.5));
    CHECK(object["dtype"] == "fp32");
    const double ms = object["ms"];
    const double dense_ms = object["dense_ms"];
    CHECK(ms > 0);
    CHECK(object["speedup"].get<double>() == doctest::Approx(dense_ms / ms));
    CHECK(std::isfinite(object["roofline"].get<double>()));
    CHECK(object["fma_gflops"].get<double>() > 0);
    CHECK(object["copy_gbs"].get<double>() > 0);
  }
}

TEST_CASE("bench bsr prints a table with the sum of the products") {
  BenchBsrOptions options = small();
  options.json = false;
  options.dtype = "fp64";
  const std::vector<std::string> lines = lines_of(options);
  REQUIRE(lines.size() == 2 + 2 * 2 * 4);
  CHECK(lines[5].starts_with("all three"));
}

TEST_CASE("bench bsr refuses what it cannot run") {
  BenchBsrOptions options = small();
  options.blocks = {12};
  CHECK_THROWS_AS(lines_of(options), ConfigError);
  options = small();
  options.sparsities = {1.5};
  CHECK_THROWS_AS(lines_of(options), ConfigError);
  options = small();
  options.device = "cuda";
  CHECK_THROWS_AS(lines_of(options), ConfigError);
  options = small();
  options.repeats = 0;
  CHECK_THROWS_AS(lines_of(options), ConfigError);
}

}  // namespace hew
