#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hew {

/// A whole model's forward pass with its block-sparse weights against the same model with dense
/// ones, dead blocks as zeros; both timed in one run, turn by turn.
struct BenchModelOptions {
  std::vector<std::string> words;  // a run, checkpoint or model file; or a recipe and overrides
  std::vector<std::int64_t> batches{1, 16};
  std::string device = "cpu";
  std::string precision = "";  // fp32, tf32, bf16 or fp64; empty: the recipe's, where it may run
  std::int64_t tokens = 0;     // of a language model's sequences; 0: its whole context
  int threads = 0;             // these and device: bench_options.h
  std::optional<int> repeats = {};
  bool json = false;
  std::string output = "";
};

/// Calls print with one line of text at a time: a table, or with `json` an object a batch size.
/// A recipe's model has random weights, and under each rule random masks of its final sparsity.
/// Inputs are random. Throws ConfigError, DataError; Error, at the end, where the two logits differ
/// by more than the precision accounts for.
void bench_model(const BenchModelOptions& options,
                 const std::function<void(const std::string&)>& print);

/// Adds `model` to `hew bench`. Parsing the command line runs it.
void add_bench_model(CLI::App& bench);

}  // namespace hew
