#pragma once

#include <string>
#include <unordered_map>
#include <utility>

#include "data/gpt2_splitter.h"
#include "data/tokenizer.h"

namespace hew {

/// A byte-level vocabulary. `pieces` has the bytes of each token, all 256 single bytes among them;
/// `merges` the pairs of tokens that join, first the pair that joins first.
struct BpeVocabulary {
  std::vector<std::string> pieces;
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;
  std::optional<std::int32_t> end_of_text;
};

/// GPT-2's encoder.json and vocab.bpe. Throws DataError naming the file.
BpeVocabulary read_gpt2_vocabulary(const std::string& encoder_json, const std::string& vocab_bpe);

/// The stored form, all text: `hew-bpe 1 PIECES MERGES END_OF_TEXT`, where END_OF_TEXT may be -1; a
/// line with the bytes of each piece in hexadecimal; a line with the two tokens of each merge.
std::string serialize(const BpeVocabulary& vocabulary);
/// Inverse of serialize. Throws DataError.
BpeVocabulary parse_bpe_vocabulary(std::string_view blob);

/// Byte-level byte-pair encoding as in GPT-2; takes UTF-8 only (DataError).
class BpeTokenizer final : public Tokenizer {
 public:
  /// Throws DataError for a vocabulary that lacks a byte or has a merge outside of it.
  explicit BpeTokenizer(BpeVocabulary vocabulary);

  std::string_view kind() const override { return "gpt2"; }
  std::int64_t vocab_size() const override {
    return static_cast<std::int64_t>(vocabulary_.pieces.size());
  }
  std::optional<std::int32_t> end_of_text() const override { return vocabulary_.end_of_text; }
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string_view piece(std::int32_t token) const override;
  std::string serialized() const override { return serialize(vocabulary_); }

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t token;
  };
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;
  void encode_word(std::string_view word, std::vector<std::int32_t>& out) const;

  BpeVocabulary vocabulary_;
  std::vector<std::int32_t> token_of_byte_;         // [256]
  std::unordered_map<std::uint64_t, Merge> merge_;  // by left << 32 | right
  Gpt2Splitter splitter_;
};

}  // namespace hew
