#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `predict MODEL IMAGE… [--top N] [--batch N] [--device D] [--json]`. Parsing the command
/// line runs it; it throws Error.
void add_predict_command(CLI::App& app, const AppContext& context);

}  // namespace hew
