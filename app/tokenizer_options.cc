#include "app/tokenizer_options.h"

namespace hew {

std::vector<CLI::Option*> add_tokenizer_options(CLI::App& command, TokenizerChoice& choice) {
  return {command.add_option("--tokenizer", choice.kind, "bytes, sentencepiece or gpt2")
              ->check(CLI::IsMember({"bytes", "sentencepiece", "gpt2"})),
          command.add_option("--sentencepiece-model", choice.sentencepiece_model,
                             "Use an existing SentencePiece model"),
          command.add_option("--gpt2-encoder", choice.encoder_json, "GPT-2's encoder.json"),
          command.add_option("--gpt2-merges", choice.vocab_bpe, "GPT-2's vocab.bpe")};
}

}  // namespace hew
