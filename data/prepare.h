#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus_file.h"
#include "data/text_lines.h"
#include "data/tokenizer_choice.h"

namespace hew {

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
