#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "core/error.h"

namespace hew {
namespace {

constexpr std::string_view kSpaceSign = "\xe2\x96\x81";  // U+2581

/// "<0x0A>" → the byte.
char byte_of(std::string_view piece) {
  int byte = 0;
  std::from_chars(piece.data() + 3, piece.data() + 5, byte, 16);
  return static_cast<char>(byte);
}

std::string bytes_of(const sentencepiece::SentencePieceProcessor& model, int id) {
  if (id == model.eos_id())
    return std::string(kEndOfText);
  if (model.IsControl(id))
    return {};
  if (model.IsUnknown(id))
    return " \xe2\x81\x87 ";  // as SentencePiece itself: U+2047
  const std::string& piece = model.IdToPiece(id);
  if (model.IsByte(id))
    return std::string(1, byte_of(piece));
  std::string bytes;
  for (std::size_t i = 0; i < piece.size();) {
    const bool space = std::string_view(piece).substr(i).starts_with(kSpaceSign);
    bytes += space ? ' ' : piece[i];
    i += space ? kSpaceSign.size() : 1;
  }
  return bytes;
}

/// One line of a library's report, without its source file and the check that failed.
std::string reason_of(const sentencepiece::util::Status& status) {
  const std::string text = status.ToString();
  const std::size_t end = text.rfind("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

/// Feeds lines to the trainer, cut so that it skips none of them.
class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::function<bool(std::string&)>& next_line)
      : next_line_(next_line) {
    Next();
  }

  bool done() const override { return done_; }
  void Next() override {  // NOLINT(readability-identifier-naming)
    if (rest_.empty())
      done_ = !next_line_(rest_);
    value_ = rest_.substr(0, cut(rest_));
    rest_.erase(0, value_.size());
  }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }

  /// The trainer drops longer lines.
  static constexpr std::size_t kLongestLine = 4192;

 private:
  static std::size_t cut(std::string_view line) {
    if (line.size() <= kLongestLine)
      return line.size();
    const std::size_t space = line.rfind(' ', kLongestLine);
    if (space != std::string_view::npos && space > 0)
      return space;
    std::size_t end = kLongestLine;  // never inside a UTF-8 character
    while (end > 1 && (static_cast<unsigned char>(line[end]) & 0xc0U) == 0x80U) --end;
    return end;
  }

  const std::function<bool(std::string&)>& next_line_;
  std::string rest_;
  std::string value_;
  bool done_ = false;
};

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view model)
    : model_(model), processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  const auto status = processor_->LoadFromSerializedProto(model_);
  require<DataError>(status.ok() && processor_->GetPieceSize() > 0,
                     "[sentencepiece] not a SentencePiece model: {}", reason_of(status));
  for (int id = 0; id < processor_->GetPieceSize(); ++id) {
    pieces_.push_back(bytes_of(*processor_, id));
  }
  if (processor_->eos_id() >= 0)
    end_of_text_ = processor_->eos_id();
  adds_space_ = Tokenizer::decode(encode("a")).starts_with(' ');
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<std::int32_t> SentencePieceTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  // Line by line: over a long text the sums of log probabilities lose their digits. A model that
  // puts a space in front would do so for every line.
  while (!text.empty()) {
    const std::size_t line = adds_space_ ? text.size() : text.substr(0, text.find('\n')).size() + 1;
    std::vector<int> ids;
    const auto status = processor_->Encode(text.substr(0, line), &ids);
    require<DataError>(status.ok(), "[sentencepiece] cannot encode: {}", reason_of(status));
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    text.remove_prefix(std::min(line, text.size()));
  }
  return tokens;
}

std::string_view SentencePieceTokenizer::piece(std::int32_t token) const {
  check_token(token);
  return pieces_[static_cast<std::size_t>(token)];
}

std::string SentencePieceTokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text = Tokenizer::decode(tokens);
  if (adds_space_ && text.starts_with(' '))
    text.erase(0, 1);
  return text;
}

std::string train_sentencepiece(const SentencePieceTraining& training,
                                const std::function<bool(std::string&)>& next_line) {
  require<ConfigError>(training.model_type == "unigram" || training.model_type == "bpe",
                       "[sentencepiece] model type '{}', expected unigram or bpe",
                       training.model_type);
  constexpr int kFixed = 2 + 256;  // unknown, end of text, bytes
  require<ConfigError>(training.vocab_size > kFixed,
                       "[sentencepiece] vocabulary of {}, expected more than {}",
                       training.vocab_size, kFixed);
  const std::unordered_map<std::string, std::string> options = {
      {"vocab_size", std::to_string(training.vocab_size)},
      {"model_type", training.model_type},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "false"},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"eos_piece", std::string(kEndOfText)},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      {"num_threads", "4"},  // sums of floats depend on it, so it is not the machine's
      {"max_sentence_length", std::to_string(LineIterator::kLongestLine)},
      {"minloglevel", "3"},
  };
  LineIterator lines(next_line);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
  require<ConfigError>(status.ok(), "[sentencepiece] cannot train a vocabulary of {}: {}",
                       training.vocab_size, reason_of(status));
  return model;
}

}  // namespace hew
