#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `import SOURCE -o FILE [--vocab N] [--context N] [--image-size N] [--classes N]
/// [--no-tokenizer] [--force]`. Parsing the command line runs it; it throws Error.
void add_import_command(CLI::App& app, const AppContext& context);

}  // namespace hew
