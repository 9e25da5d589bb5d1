#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `train RECIPE [key=value …] [--resume] [--dry-run] [--stop-after N] [--profile steps=A:B]`.
/// Parsing the command line runs it; it throws Error.
void add_train_command(CLI::App& app, const AppContext& context);

}  // namespace hew
