#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace hew {

/// The block-sparse products on random data and a random pattern against the dense product of the
/// same shape, both timed in one run, turn by turn.
struct BenchBsrOptions {
  std::string device = "cpu";
  std::int64_t tokens = 4096;
  std::int64_t out_features = 3072;
  std::int64_t in_features = 768;
  std::vector<std::int64_t> blocks{16, 32, 64};
  std::vector<double> sparsities{0.0, 0.8, 0.9};
  std::string dtype = "fp32";
  int threads = 0;  // 0: as many as OpenMP would start
  int repeats = 5;  // the median of these is reported
  bool json = false;
};

/// Calls print with one line of text at a time: a table, or with `json` one object for each block,
/// sparsity and product (keys: docs of the command). Throws ConfigError.
void bench_bsr(const BenchBsrOptions& options,
               const std::function<void(const std::string&)>& print);

/// Adds `bsr` to `hew bench`. Parsing the command line runs it.
void add_bench_bsr(CLI::App& bench);

}  // namespace hew
