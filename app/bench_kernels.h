#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace hew {

/// The kernels of a GPU on random data, each between events on the stream, after a warm-up.
struct BenchKernelsOptions {
  std::string device = "cuda";
  std::vector<std::string> only = {};  // groups of kernels; empty: all
  std::string dtype = "bf16";  // of activations and weights; tf32: float32, in products tf32
  int repeat = 20;             // the median of these calls is reported
  double scale = 1;            // of the number of tokens, rows or layers, in (0, 1]
};

/// Calls print with one line of text at a time: kernel, shape, milliseconds, GB/s or TFLOP/s, and
/// the share of the bandwidth of a device-to-device copy in the same run (read and written bytes
/// both counted) or of the multiply-add rate of an H100. Throws ConfigError, also where the device
/// is the CPU.
void bench_kernels(const BenchKernelsOptions& options,
                   const std::function<void(const std::string&)>& print);

/// Adds `kernels` to `hew bench`. Parsing the command line runs it.
void add_bench_kernels(CLI::App& bench);

}  // namespace hew
