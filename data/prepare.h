#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus_file.h"
#include "data/text_lines.h"

namespace hew {

/// Which tokenizer prepare_corpus uses.
struct TokenizerChoice {
  std::string kind = "bytes";
  std::string sentencepiece_model;  // an existing .model file; empty: one is trained
  std::int64_t vocab_size = 0;      // of a SentencePiece model to train
  std::string model_type = "unigram";
  std::string save_model;    // where to put a SentencePiece model as a file of its own
  std::string encoder_json;  // GPT-2
  std::string vocab_bpe;     // GPT-2
};

struct PrepareOptions {
  std::vector<std::string> inputs;  // "-" is standard input
  std::string output;
  Documents documents = Documents::kSeparator;
  double valid_fraction = 0;  // the tail of the text that goes to valid_output
  std::string valid_output;
  bool force = false;  // overwrite outputs
  TokenizerChoice tokenizer;
};

struct PrepareResult {
  CorpusInfo train;
  std::optional<CorpusInfo> valid;
};

/// Turns text files into a corpus, and their tail into another one where asked to. A SentencePiece
/// model that is trained sees the training part only. All outputs appear, or none. Throws
/// ConfigError for options that contradict each other and for outputs that exist, and DataError.
PrepareResult prepare_corpus(const PrepareOptions& options);

}  // namespace hew
