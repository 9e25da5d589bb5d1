#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `inspect RUN [--json] [--mask NAME] [--png FILE [--norms]]`. Parsing the command line runs
/// it; it throws Error.
void add_inspect_command(CLI::App& app, const AppContext& context);

}  // namespace hew
