#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hew {

/// A block-sparse MLP as inference makes it, act(x·upᵀ + bias)·downᵀ + bias, in its ways and with
/// the same weights dense, on random data in bf16 (float32 on a CPU), turn by turn in one run. What
/// several benches have is explained in bench_options.h.
struct BenchMlpOptions {
  std::string device = "cpu";
  std::int64_t tokens = 50432;  // ViT-B's on 256 images
  std::int64_t width = 768;
  std::int64_t hidden = 3072;
  std::vector<std::int64_t> blocks{64};
  std::vector<double> sparsities{0.5, 0.7, 0.8, 0.9, 0.95};
  std::string activation = "gelu";
  int threads = 0;
  std::optional<int> repeats = {};
  bool json = false;
  std::string output = "";
};

/// Calls print with one line of text at a time: a table, or with `json` one object for each block
/// and sparsity. Columns: milliseconds of the fused kernel where there is one, of two block-sparse
/// products, of what inference chooses, of two dense products. Throws ConfigError; Error, at the
/// end, where a result was not that of the dense products.
void bench_mlp(const BenchMlpOptions& options,
               const std::function<void(const std::string&)>& print);

/// Adds `mlp` to `hew bench`. Parsing the command line runs it.
void add_bench_mlp(CLI::App& bench);

}  // namespace hew
