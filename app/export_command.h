#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `export RUN --format bsr-hdf5|safetensors|dense-safetensors -o OUT [--dtype …] [--force]`.
/// Parsing the command line runs it; it throws Error.
void add_export_command(CLI::App& app, const AppContext& context);

}  // namespace hew
