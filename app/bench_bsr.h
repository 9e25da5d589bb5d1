#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hew {

/// The block-sparse products on random data against the dense product with the same weight, both
/// timed in one run, turn by turn.
struct BenchBsrOptions {
  std::string device = "cpu";
  std::vector<std::string> shapes = {};   // known ones, or "all"; empty: the three sizes below
  std::vector<std::int64_t> tokens = {};  // empty: a known shape's own, else 4096
  std::int64_t out_features = 3072;
  std::int64_t in_features = 768;
  std::vector<std::int64_t> blocks{16, 32, 64};
  std::vector<double> sparsities{0.0, 0.8, 0.9};
  std::vector<std::string> products = {};  // empty: all
  std::string pattern = "random";
  std::string dtype = "";  // empty: fp32 on the CPU, bf16 on a GPU
  int threads = 0;         // these and device, json, output: bench_options.h
  std::optional<int> repeats = {};
  std::string packing = "auto";  // or a name of kernels::hopper::BsrPacking, for GPUs
  std::string tall = "auto";     // or yes, no: tiles of 256 rows, for GPUs
  bool dispatch = false;         // as training does: dense products where those are cheaper
  bool json = false;
  std::string output = "";
};

/// Calls print with one line of text at a time: a table and the geometric means over its cells, or
/// with `json` one object for each shape, block, sparsity and product (keys: docs/gpu.md). Known
/// shapes leave out the blocks that do not divide them. Throws ConfigError; Error, at the end,
/// where a result was not that of the dense product.
void bench_bsr(const BenchBsrOptions& options,
               const std::function<void(const std::string&)>& print);

/// Adds `bsr` to `hew bench`. Parsing the command line runs it.
void add_bench_bsr(CLI::App& bench);

}  // namespace hew
