#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hew {

/// The endings of hew's own block-sparse kernels, with no dense product in their place, against the
/// bare product, on random data and blocks in bf16 (float32 on a CPU), turn by turn in one run.
struct BenchEndingsOptions {
  std::string device = "cpu";
  std::vector<std::string> shapes{"gpt2xl_fc1"};
  std::optional<std::int64_t> tokens = {};  // M, in place of a shape's own
  std::vector<std::int64_t> blocks{64};
  std::vector<double> sparsities{0.9};
  int threads = 0;  // these and device: bench_options.h
  std::optional<int> repeats = {};
  bool json = false;
  std::string output = "";
};

/// Calls print with one line of text at a time: a table, or with `json` one object for each shape,
/// block, sparsity and ending. `over` is the ending's time over bare + extra, where extra is what
/// the bytes that the ending alone reads and writes take in a copy on the device of the same run.
/// Throws ConfigError, DataError.
void bench_endings(const BenchEndingsOptions& options,
                   const std::function<void(const std::string&)>& print);

/// Adds `endings` to `hew bench`. Parsing the command line runs it.
void add_bench_endings(CLI::App& bench);

}  // namespace hew
