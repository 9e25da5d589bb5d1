#pragma once

#include <CLI/CLI.hpp>

namespace hew {

/// Adds `data tokenize` (text files to a corpus) and `data info` (what a corpus says of itself).
/// Parsing the command line runs them; they print to standard output and throw Error.
void add_data_commands(CLI::App& app);

}  // namespace hew
