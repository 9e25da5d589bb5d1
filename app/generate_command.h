#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `generate RUN --prompt TEXT|--prompt-tokens IDS [--tokens N] [--temperature …] …`. Parsing
/// the command line runs it; it prints text as it comes and throws Error.
void add_generate_command(CLI::App& app, const AppContext& context);

}  // namespace hew
