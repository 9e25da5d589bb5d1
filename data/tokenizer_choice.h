#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace hew {

/// A tokenizer as a command line names it.
struct TokenizerChoice {
  std::string kind = "bytes";
  std::string sentencepiece_model = {};  // an existing .model file; empty: one is trained
  std::int64_t vocab_size = 0;           // of a SentencePiece model to train
  std::string model_type = "unigram";
  std::string save_model = {};    // where to put a SentencePiece model as a file of its own
  std::string encoder_json = {};  // GPT-2
  std::string vocab_bpe = {};     // GPT-2
};

/// Throws ConfigError for an unknown kind, and for options that its kind does not take or lacks.
void check_tokenizer_choice(const TokenizerChoice& choice);
/// A tokenizer that exists, so that nothing is to be trained. Throws ConfigError, and DataError
/// naming the file.
std::unique_ptr<Tokenizer> load_tokenizer(const TokenizerChoice& choice);

}  // namespace hew
