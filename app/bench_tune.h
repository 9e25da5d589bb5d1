#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "app/bench_tune_layers.h"

namespace hew {

/// Times each block-sparse product both ways that a GPU has, its own kernels and the dense product
/// on the folded weight, on random data and blocks, turn by turn. Calls print with one line of a
/// table at a time, and writes options.output (kernels::BsrRoutes), in place of what it held.
/// Throws ConfigError; Error, and nothing is written, where a result was not that of the dense
/// product.
void bench_tune(const BenchTuneOptions& options,
                const std::function<void(const std::string&)>& print);

/// Adds `tune` to `hew bench`. Parsing the command line runs it.
void add_bench_tune(CLI::App& bench);

}  // namespace hew
