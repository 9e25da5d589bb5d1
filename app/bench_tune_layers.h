#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace hew {

/// Which products `hew bench tune` times: those of a recipe's sparse layers, or of sizes.
struct BenchTuneOptions {
  std::string device = "cuda";
  std::vector<std::string> overrides = {};  // key=value, of the recipe
  std::string recipe = "";
  std::vector<std::string> shapes = {};  // known ones, or "all"
  std::int64_t out_features = 0;         // with in_features, in place of recipe and shapes
  std::int64_t in_features = 0;
  std::int64_t tokens = 0;  // 0: of a micro-batch of the recipe, or of the shape
  std::vector<std::int64_t> blocks =
      {};  // empty: those of the rules; 16, 32, 64 and 128 of a shape
  std::vector<double> densities{0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0};
  std::string dtype = "";  // empty: the recipe's, or bf16
  int repeats = 20;        // the median counts
  std::string output = "";
};

/// One linear layer whose products are to be timed.
struct TunedLayer {
  std::int64_t tokens = 0;
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  std::int64_t block = 0;

  friend auto operator<=>(const TunedLayer&,
                          const TunedLayer&) = default;  // NOLINT(modernize-use-nullptr)
};

struct TunedLayers {
  std::vector<TunedLayer> layers;  // each once; those of the same matrix stand together
  std::string dtype;               // bf16, tf32, fp32 or fp64
};

/// Throws ConfigError where the options or the recipe are wrong or name no sparse layer, DataError
/// where a corpus is missing that is to say how large the vocabulary is.
TunedLayers tuned_layers(const BenchTuneOptions& options);

}  // namespace hew
