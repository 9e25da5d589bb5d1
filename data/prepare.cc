#include "data/prepare.h"

#include <array>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <set>

#include "core/error.h"
#include "data/corpus_writer.h"
#include "data/path_pattern.h"
#include "data/sentencepiece_tokenizer.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

// SentencePiece holds its training text several times over in memory; of more, lines spread evenly
// over the text are taken.
constexpr std::int64_t kTrainingBytes = std::int64_t{64} << 20U;
constexpr std::int64_t kNoSplit = std::numeric_limits<std::int64_t>::max();

void check_outputs(const PrepareOptions& options) {
  require<ConfigError>(options.valid_fraction >= 0 && options.valid_fraction < 1,
                       "held-out fraction {}, expected at least 0 and below 1",
                       options.valid_fraction);
  require<ConfigError>((options.valid_fraction > 0) == !options.valid_output.empty(),
                       "--valid-fraction and --valid-output go together");
  std::set<std::filesystem::path> seen;
  for (const std::string& name :
       {options.output, options.valid_output, options.tokenizer.save_model}) {
    if (name.empty())
      continue;
    const auto path = std::filesystem::absolute(name).lexically_normal();
    require<ConfigError>(seen.insert(path).second, "{}: is the name of two outputs", name);
    require_no_input(name, options.inputs);
    require_no_input(name, std::array{options.tokenizer.sentencepiece_model,
                                      options.tokenizer.encoder_json, options.tokenizer.vocab_bpe});
    require<ConfigError>(options.force || !std::filesystem::exists(path),
                         "{}: exists already; --force overwrites it", name);
  }
}

std::string train_model(const PrepareOptions& options, const TextInputs& inputs,
                        std::int64_t split) {
  const std::int64_t bytes = std::min(inputs.bytes(), split);
  const std::int64_t stride = (bytes + kTrainingBytes - 1) / kTrainingBytes;
  LineReader lines(inputs, options.documents, /*require_utf8=*/true);
  TextLine line;
  std::int64_t number = 0;
  const auto next_line = [&](std::string& text) {
    do {
      if (!lines.next(line) || line.offset >= split)
        return false;
    } while (number++ % stride != 0);
    text = line.text.substr(0, line.text.find('\n'));
    return true;
  };
  return train_sentencepiece(
      {.vocab_size = options.tokenizer.vocab_size, .model_type = options.tokenizer.model_type},
      next_line);
}

std::unique_ptr<Tokenizer> make(const PrepareOptions& options, const TextInputs& inputs,
                                std::int64_t split) {
  if (options.tokenizer.vocab_size > 0)
    return std::make_unique<SentencePieceTokenizer>(train_model(options, inputs, split));
  return load_tokenizer(options.tokenizer);
}

/// Sends each line to the training or the held-out corpus.
void write_documents(const PrepareOptions& options, const TextInputs& inputs, std::int64_t split,
                     CorpusWriter& train, CorpusWriter* valid) {
  TextLine line;
  const bool require_utf8 = options.tokenizer.kind != "bytes";
  for (LineReader lines(inputs, options.documents, require_utf8); lines.next(line);) {
    CorpusWriter& part = line.offset < split ? train : *valid;
    if (options.documents == Documents::kLine && line.text.ends_with('\n'))
      line.text.pop_back();
    if (line.starts_document)
      part.end_document();
    part.add_text(line.text);
  }
}

/// Commits one after another; if one fails, takes away those before it.
void commit_all(const std::vector<std::pair<std::string, std::function<void()>>>& outputs) {
  auto next = outputs.begin();
  try {
    for (; next != outputs.end(); ++next) next->second();
  } catch (...) {
    std::error_code ignored;
    for (auto done = outputs.begin(); done != next; ++done) {
      std::filesystem::remove(done->first, ignored);
    }
    throw;
  }
}

}  // namespace

PrepareResult prepare_corpus(const PrepareOptions& options) {
  check_tokenizer_choice(options.tokenizer);
  check_outputs(options);
  require<ConfigError>(!options.inputs.empty(), "no input file is named");
  const TextInputs inputs(options.inputs);
  const bool split_off = options.valid_fraction > 0;
  const std::int64_t split =
      split_off ? find_split(inputs, options.documents, options.valid_fraction) : kNoSplit;
  const std::unique_ptr<Tokenizer> tokenizer = make(options, inputs, split);

  std::vector<std::pair<std::string, std::function<void()>>> outputs;
  CorpusWriter train(options.output, *tokenizer);
  outputs.emplace_back(options.output, [&] { train.commit(); });
  std::optional<CorpusWriter> valid;
  if (split_off) {
    valid.emplace(options.valid_output, *tokenizer);
    outputs.emplace_back(options.valid_output, [&] { valid->commit(); });
  }
  std::optional<AtomicFile> model;
  if (!options.tokenizer.save_model.empty()) {
    model.emplace(options.tokenizer.save_model);
    const std::string blob = tokenizer->serialized();
    model->write(std::as_bytes(std::span(blob)));
    outputs.emplace_back(options.tokenizer.save_model, [&] { model->commit(); });
  }
  write_documents(options, inputs, split, train, valid ? &*valid : nullptr);
  commit_all(outputs);
  return {.train = train.info(), .valid = valid ? std::optional(valid->info()) : std::nullopt};
}

}  // namespace hew
