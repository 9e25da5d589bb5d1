#pragma once

#include <CLI/CLI.hpp>

#include "app/context.h"

namespace hew {

/// Adds `eval RUN [--data corpus…] [--batch N] [--device D] [--json] [--dump-logits FILE]` and
/// `eval RUN --task NAME --data PATH [--limit N] [--tokenizer …] …`. RUN is a run directory, a
/// checkpoint or an exported model. Parsing the command line runs it; it throws Error.
void add_eval_command(CLI::App& app, const AppContext& context);

}  // namespace hew
