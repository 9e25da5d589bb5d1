#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `data tokenize` (text files to a corpus), `data images` (images to a pack), `data info`
/// (what either says of itself) and `data batches` (the tokens that a recipe's first steps see).
/// Parsing the command line runs them; they print to standard output and throw Error.
void add_data_commands(CLI::App& app, const AppContext& context);

}  // namespace hew
