#include "data/tokenizer.h"

#include "core/error.h"
#include "data/bpe_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"
#include "io/sha256.h"

namespace hew {

std::string Tokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) text += piece(token);
  return text;
}

std::string tokenizer_sha256(std::string_view kind, std::string_view blob) {
  return sha256_hex(std::string(kind).append(1, '\0').append(blob));
}

std::string Tokenizer::sha256() const {
  return tokenizer_sha256(kind(), serialized());
}

void Tokenizer::check_token(std::int32_t token) const {
  require<DataError>(token >= 0 && token < vocab_size(),
                     "[decode] token {} is outside the {} vocabulary of {}", token, kind(),
                     vocab_size());
}

ByteTokenizer::ByteTokenizer() {
  for (int byte = 0; byte < 256; ++byte) bytes_ += static_cast<char>(byte);
}

std::vector<std::int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  tokens.reserve(text.size());
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

std::string_view ByteTokenizer::piece(std::int32_t token) const {
  check_token(token);
  if (token == 256)
    return kEndOfText;
  return std::string_view(bytes_).substr(static_cast<std::size_t>(token), 1);
}

std::unique_ptr<Tokenizer> make_tokenizer(std::string_view kind, std::string_view blob,
                                          std::string_view file) {
  if (!file.empty()) {
    try {
      return make_tokenizer(kind, blob);
    } catch (const DataError& error) {
      throw DataError(fmt::format("{}: {}", file, error.what()));
    }
  }
  if (kind == "sentencepiece")
    return std::make_unique<SentencePieceTokenizer>(blob);
  if (kind == "gpt2")
    return std::make_unique<BpeTokenizer>(parse_bpe_vocabulary(blob));
  require<DataError>(kind == "bytes",
                     "[tokenizer] kind '{}', expected bytes, sentencepiece or gpt2", kind);
  require<DataError>(blob.empty(), "[tokenizer] bytes takes no vocabulary, got {} bytes of one",
                     blob.size());
  return std::make_unique<ByteTokenizer>();
}

}  // namespace hew
