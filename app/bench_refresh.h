#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hew {

/// What a refresh of all masks costs the host: for each matrix under a sparsity rule of a recipe,
/// at the rule's final sparsity and with random scores.
struct BenchRefreshOptions {
  std::vector<std::string> words;  // a recipe and overrides
  std::string device = "cpu";
  int threads = 0;  // these and device: bench_options.h
  std::optional<int> repeats = {};
  bool json = false;
  std::string output = "";
};

/// Calls print with one line of text at a time: a table of one row, or with `json` an object.
/// Columns: milliseconds to select the masks, to make their indices, to make the schedules of those
/// blocks that have any, to copy both to a GPU; and all of it, on a GPU as one refresh does it.
/// Throws ConfigError, DataError.
void bench_refresh(const BenchRefreshOptions& options,
                   const std::function<void(const std::string&)>& print);

/// Adds `refresh` to `hew bench`. Parsing the command line runs it.
void add_bench_refresh(CLI::App& bench);

}  // namespace hew
