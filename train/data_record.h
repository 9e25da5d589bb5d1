#pragma once

#include <string>
#include <vector>

namespace hew::train {

/// The tokenizer a model was trained with; kind is empty where the corpus did not say.
struct TokenizerRecord {
  std::string kind;
  std::string blob;
  std::string sha256;
};

/// What must be known of the training data to use a model, or to go on with its training.
struct DataRecord {
  TokenizerRecord tokenizer = {};         // of text
  std::vector<std::string> classes = {};  // of images: the name of each label
  std::string digest = {};                // TokenCorpus::digest(), digest_of(); empty: not known
};

}  // namespace hew::train
