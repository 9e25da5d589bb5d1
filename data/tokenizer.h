#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hew {

/// How the end of a document is written in text: alone on a line, or where it is decoded.
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

/// A map between text and tokens in [0, vocab_size). Immutable, so safe to share between threads.
class Tokenizer {
 public:
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  virtual ~Tokenizer() = default;

  /// "bytes", "sentencepiece" or "gpt2".
  virtual std::string_view kind() const = 0;
  virtual std::int64_t vocab_size() const = 0;
  /// The token that ends a document, where the vocabulary has one. encode() never gives it.
  virtual std::optional<std::int32_t> end_of_text() const = 0;
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  /// The bytes a token stands for in the middle of a text, perhaps a part of a UTF-8 character; the
  /// pieces of a sequence put together are its text. End of text is `<|endoftext|>`. Throws
  /// DataError for a token outside the vocabulary.
  virtual std::string_view piece(std::int32_t token) const = 0;
  /// The text of a whole sequence. Throws DataError for a token outside the vocabulary.
  virtual std::string decode(std::span<const std::int32_t> tokens) const;
  /// What make_tokenizer needs besides the kind; empty for bytes.
  virtual std::string serialized() const = 0;

  /// tokenizer_sha256(kind(), serialized()).
  std::string sha256() const;

 protected:
  void check_token(std::int32_t token) const;
};

/// The 256 bytes, and 256 for end of text.
class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer();

  std::string_view kind() const override { return "bytes"; }
  std::int64_t vocab_size() const override { return 257; }
  std::optional<std::int32_t> end_of_text() const override { return 256; }
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string_view piece(std::int32_t token) const override;
  std::string serialized() const override { return {}; }

 private:
  std::string bytes_;  // 0 … 255
};

/// SHA-256 of kind, a zero byte and blob, in hexadecimal.
std::string tokenizer_sha256(std::string_view kind, std::string_view blob);
/// The tokenizer that has this kind() and serialized(). Throws DataError, which names the file that
/// holds them if it is given.
std::unique_ptr<Tokenizer> make_tokenizer(std::string_view kind, std::string_view blob,
                                          std::string_view file = {});

}  // namespace hew
