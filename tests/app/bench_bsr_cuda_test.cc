#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "app/bench_bsr.h"

namespace hew {

// A wrong result would throw.
TEST_CASE("bench bsr runs all products of a GPU and checks them") {
  for (const char* dtype : {"bf16", "tf32", "fp32"}) {
    for (const char* pattern : {"random", "long-row"}) {
      std::vector<std::string> lines;
      bench_bsr({.device = "cuda",
                 .tokens = {515},
                 .out_features = 512,
                 .in_features = 768,
                 .blocks = {16, 32, 64, 128},
                 .sparsities = {0, 0.5, 0.95},
                 .pattern = pattern,
                 .dtype = dtype,
                 .repeats = 2,
                 .json = true},
                [&](const std::string& line) { lines.push_back(line); });
      REQUIRE(lines.size() == 4 * 3 * 3);
      for (const std::string& line : lines) {
        const auto object = nlohmann::json::parse(line);
        CHECK(object["dtype"] == dtype);
        CHECK(object["ms"].get<double>() > 0);
        CHECK(object["error"].get<double>() < 1e-2);
      }
    }
  }
}

// W is folded in each round for `ms`, and is there already for `kept_ms`.
TEST_CASE("bench bsr --dispatch times what folding a weight takes") {
  for (const double sparsity : {0.0, 0.99}) {
    std::vector<std::string> lines;
    bench_bsr({.device = "cuda",
               .tokens = {2048},
               .out_features = 4096,
               .in_features = 2048,
               .blocks = {16},
               .sparsities = {sparsity},
               .repeats = 5,
               .dispatch = true,
               .json = true},
              [&](const std::string& line) { lines.push_back(line); });
    REQUIRE(lines.size() == 3);
    for (const std::string& line : lines) {
      const auto object = nlohmann::json::parse(line);
      const bool folds = sparsity == 0 && object["product"] != "weight_gradient";
      CHECK(object.contains("kept_ms") == folds);
      if (folds)
        CHECK(object["kept_ms"].get<double>() < object["ms"].get<double>());
    }
  }
}

}  // namespace hew
