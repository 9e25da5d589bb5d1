#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/bench_turns.h"
#include "core/device.h"

namespace hew {

/// The most tokens or features that a bench may be asked for: what they multiply to can be counted.
inline constexpr std::int64_t kMostBenchSize = 1'000'000'000;

/// What every bench that runs on one device lets its caller choose; `Options` below have members of
/// these names.
struct BenchRunView {
  std::string& device;
  int& threads;                 // 0: as many as OpenMP would start
  std::optional<int>& repeats;  // the median counts
  bool& json;
  std::string& output;  // a file that takes the objects of `json` in any case
};

void add_run_options(CLI::App& command, const BenchRunView& options);

template <class Options>
void add_run_options(CLI::App& command, Options& o) {
  add_run_options(command, BenchRunView{o.device, o.threads, o.repeats, o.json, o.output});
}

/// Throws ConfigError if `path` is a file that no bench has written, so that a mistaken name costs
/// nothing.
void require_bench_output(const std::string& path);

/// Throws ConfigError for a device that is not there, and numbers of threads or repeats that cannot
/// be.
void check_run_options(const std::string& device, int threads, const std::optional<int>& repeats);

template <class Options>
void check_run_options(const Options& o) {
  check_run_options(o.device, o.threads, o.repeats);
}

/// `--blocks` and `--sparsity`, lists with commas.
void add_block_options(CLI::App& command, std::vector<std::int64_t>& blocks,
                       std::vector<double>& sparsities);
/// Throws ConfigError unless all are multiples of 8 up to 128.
void check_blocks(std::span<const std::int64_t> blocks);
/// Throws ConfigError unless all leave a block live.
void check_sparsities(std::span<const double> sparsities);

/// So many threads from here on; 0 changes nothing.
void use_threads(int threads);

/// 5 rounds on a CPU and 20 on a GPU, unless `repeats` says another number.
BenchTurns turns_for(Device device, const std::optional<int>& repeats);

/// The GPU's name, or how many threads there are.
std::string hardware_words(Device device);

/// Prints a line on standard output at once.
void print_now(const std::string& line);

}  // namespace hew
