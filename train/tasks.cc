#include "train/tasks.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace hew::train {
namespace {

/// Log probabilities of texts of any length.
class Texts {
 public:
  explicit Texts(const TextModel& model)
      : model_(model), prefix_(model.tokenizer.end_of_text().value_or(0)) {
    require<ConfigError>(model.tokenizer.end_of_text().has_value(),
                         "the {} tokenizer has no end of text, from which a text's first token is "
                         "predicted",
                         model.tokenizer.kind());
  }

  void add(const std::string& text) {
    const std::vector<std::int32_t> tokens = model_.tokenizer.encode(text);
    tokens_ += std::ssize(tokens);
    for (ScoredTokens& window : rolling_windows(tokens, prefix_, model_.model.config().context)) {
      windows_.push_back(std::move(window));
      text_of_window_.push_back(texts_);
    }
    ++texts_;
  }
  std::int64_t tokens() const { return tokens_; }

  // In the order in which they were added.
  std::vector<double> log_probabilities() const {
    const std::vector<SequenceScore> scores = score_sequences(
        model_.model, windows_, {.batch = model_.batch}, model_.comm, model_.stream);
    std::vector<double> sums(texts_, 0);
    for (std::size_t i = 0; i < scores.size(); ++i)
      sums[text_of_window_[i]] += scores[i].log_probability;
    return sums;
  }

 private:
  const TextModel& model_;
  std::int32_t prefix_;
  std::vector<ScoredTokens> windows_;
  std::vector<std::size_t> text_of_window_;
  std::size_t texts_ = 0;
  std::int64_t tokens_ = 0;
};

ScoredTokens last_word_tokens(const TextModel& model, const LastWord& passage) {
  const auto context = model.model.config().context;
  ScoredTokens out{.tokens = model.tokenizer.encode(passage.passage + passage.word), .scored = 0};
  out.scored = std::ssize(out.tokens) - std::ssize(model.tokenizer.encode(passage.passage));
  require<DataError>(out.scored > 0 && out.scored < std::ssize(out.tokens),
                     "{}: its last word has no tokens of its own", passage.where);
  require<DataError>(out.scored <= context,
                     "{}: its last word has {} tokens, more than the model's context of {}",
                     passage.where, out.scored, context);
  const std::int64_t excess = std::ssize(out.tokens) - (context + 1);
  if (excess > 0)
    out.tokens.erase(out.tokens.begin(), out.tokens.begin() + excess);
  return out;
}

}  // namespace

double WikitextResult::word_perplexity() const {
  return std::exp(nats / static_cast<double>(words));
}

double WikitextResult::bits_per_byte() const {
  return nats / (static_cast<double>(bytes) * std::numbers::ln2);
}

double WikitextResult::loss() const {
  return nats / static_cast<double>(tokens);
}

double BlimpResult::accuracy() const {
  double sum = 0;
  for (const Share& share : phenomena) sum += share.accuracy;
  return sum / static_cast<double>(phenomena.size());
}

WikitextResult evaluate_wikitext(const TextModel& model,
                                 const std::vector<WikitextArticle>& articles) {
  WikitextResult result{.articles = std::ssize(articles)};
  Texts texts(model);
  for (const WikitextArticle& article : articles) {
    texts.add(article.text);
    result.words += article.words;
    result.bytes += article.bytes;
  }
  result.tokens = texts.tokens();
  for (const double log_probability : texts.log_probabilities()) result.nats -= log_probability;
  return result;
}

LambadaResult evaluate_lambada(const TextModel& model, const std::vector<LastWord>& passages) {
  std::vector<ScoredTokens> sequences;
  sequences.reserve(passages.size());
  for (const LastWord& passage : passages) sequences.push_back(last_word_tokens(model, passage));
  double right = 0;
  double nats = 0;
  for (const SequenceScore& score :
       score_sequences(model.model, sequences, {.batch = model.batch, .greedy = true}, model.comm,
                       model.stream)) {
    right += score.greedy ? 1 : 0;
    nats -= score.log_probability;
  }
  const auto count = static_cast<double>(passages.size());
  return {.accuracy = right / count,
          .perplexity = std::exp(nats / count),
          .passages = std::ssize(passages)};
}

BlimpResult evaluate_blimp(const TextModel& model, const std::vector<Phenomenon>& phenomena) {
  Texts texts(model);
  for (const Phenomenon& phenomenon : phenomena) {
    for (const MinimalPair& pair : phenomenon.pairs) {
      texts.add(pair.good);
      texts.add(pair.bad);
    }
  }
  const std::vector<double> scores = texts.log_probabilities();
  auto next = scores.begin();
  BlimpResult result;
  for (const Phenomenon& phenomenon : phenomena) {
    const auto pairs = std::ssize(phenomenon.pairs);
    std::int64_t right = 0;
    for (std::int64_t i = 0; i < pairs; ++i, next += 2) right += next[0] > next[1] ? 1 : 0;
    result.phenomena.push_back(
        {.name = phenomenon.name,
         .pairs = pairs,
         .accuracy = static_cast<double>(right) / static_cast<double>(pairs)});
  }
  return result;
}

}  // namespace hew::train
