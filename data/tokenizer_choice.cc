#include "data/tokenizer_choice.h"

#include <span>

#include "core/error.h"
#include "data/bpe_tokenizer.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

std::string read_file(const std::string& path) {
  const FileDescriptor file = open_to_read(path);
  std::string bytes(static_cast<std::size_t>(size_of_file(file, path)), '\0');
  read_at(file, path, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

}  // namespace

void check_tokenizer_choice(const TokenizerChoice& choice) {
  const bool pieces = choice.kind == "sentencepiece";
  const bool gpt2 = choice.kind == "gpt2";
  require<ConfigError>(pieces || gpt2 || choice.kind == "bytes",
                       "tokenizer '{}', expected bytes, sentencepiece or gpt2", choice.kind);
  const bool load = !choice.sentencepiece_model.empty();
  require<ConfigError>(!pieces || load != (choice.vocab_size > 0),
                       "sentencepiece takes either --vocab-size or --sentencepiece-model");
  require<ConfigError>(pieces || (!load && choice.vocab_size == 0 && choice.save_model.empty()),
                       "tokenizer {} takes no SentencePiece option", choice.kind);
  const bool files = !choice.encoder_json.empty() && !choice.vocab_bpe.empty();
  const bool no_files = choice.encoder_json.empty() && choice.vocab_bpe.empty();
  require<ConfigError>(gpt2 ? files : no_files,
                       "tokenizer gpt2, and no other, takes --gpt2-encoder and --gpt2-merges");
}

std::unique_ptr<Tokenizer> load_tokenizer(const TokenizerChoice& choice) {
  require<ConfigError>(choice.kind != "sentencepiece" || !choice.sentencepiece_model.empty(),
                       "tokenizer sentencepiece needs --sentencepiece-model");
  check_tokenizer_choice(choice);
  if (choice.kind == "bytes")
    return std::make_unique<ByteTokenizer>();
  if (choice.kind == "gpt2") {
    BpeVocabulary vocabulary = read_gpt2_vocabulary(choice.encoder_json, choice.vocab_bpe);
    try {
      return std::make_unique<BpeTokenizer>(std::move(vocabulary));
    } catch (const DataError& error) {
      throw DataError(
          fmt::format("{}, {}: {}", choice.encoder_json, choice.vocab_bpe, error.what()));
    }
  }
  return make_tokenizer(choice.kind, read_file(choice.sentencepiece_model),
                        choice.sentencepiece_model);
}

}  // namespace hew
