#pragma once

#include <CLI/CLI.hpp>
#include <vector>

#include "data/tokenizer_choice.h"

namespace hew {

/// Adds the options that name a tokenizer which exists: --tokenizer, --sentencepiece-model,
/// --gpt2-encoder, --gpt2-merges. Returns them all. `choice` must outlive the parsing.
std::vector<CLI::Option*> add_tokenizer_options(CLI::App& command, TokenizerChoice& choice);

}  // namespace hew
