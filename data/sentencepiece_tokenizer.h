#pragma once

#include <functional>
#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace hew {

/// A SentencePiece model (Kudo and Richardson 2018), as its own .model file.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  /// From the bytes of a .model file. Throws DataError.
  explicit SentencePieceTokenizer(std::string_view model);
  SentencePieceTokenizer(const SentencePieceTokenizer&) = delete;
  SentencePieceTokenizer& operator=(const SentencePieceTokenizer&) = delete;
  ~SentencePieceTokenizer() override;

  std::string_view kind() const override { return "sentencepiece"; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::optional<std::int32_t> end_of_text() const override { return end_of_text_; }
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string_view piece(std::int32_t token) const override;
  /// Without the space that some models put in front of every text.
  std::string decode(std::span<const std::int32_t> tokens) const override;
  std::string serialized() const override { return model_; }

 private:
  std::string model_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::vector<std::string> pieces_;  // bytes of each token
  std::optional<std::int32_t> end_of_text_;
  bool adds_space_ = false;  // in front of a text
};

struct SentencePieceTraining {
  std::int64_t vocab_size = 0;
  std::string model_type = "unigram";  // or "bpe"
};

/// Learns a model from lines of text; `next_line` puts the next one into its argument and returns
/// false after the last. Text is kept as it is (no normalisation, no space put in front) and what
/// has no piece falls back to bytes, so decode(encode(x)) = x unless x has the sign U+2581, which
/// SentencePiece writes a space with. The same lines give the same model. Returns the bytes of a
/// .model file. Throws ConfigError.
std::string train_sentencepiece(const SentencePieceTraining& training,
                                const std::function<bool(std::string&)>& next_line);

}  // namespace hew
