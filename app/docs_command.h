#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `docs recipe`, which prints the page of recipe keys (docs/recipe.md).
void add_docs_command(CLI::App& app, const AppContext& context);

}  // namespace hew
