#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/blimp.h"
#include "data/lambada.h"
#include "data/tokenizer.h"
#include "data/wikitext.h"
#include "train/sequence_scores.h"

namespace hew::train {

/// A model that reads text, and what it computes on. All ranks get the same results.
struct TextModel {
  const layers::LanguageModel& model;
  const Tokenizer& tokenizer;
  dist::Communicator& comm;
  const Stream& stream;
  std::int64_t batch = 1;  // as many tokens at a time as so many contexts have
};

/// Merity et al. 2016, by the conventions of lm-evaluation-harness' `wikitext`.
struct WikitextResult {
  double nats = 0;  // −log probability of all articles
  std::int64_t articles = 0;
  std::int64_t tokens = 0;  // of the detokenised text
  std::int64_t words = 0;   // these two of the text as it came
  std::int64_t bytes = 0;

  double word_perplexity() const;  // e^(nats / words)
  double bits_per_byte() const;    // nats / (bytes · ln 2)
  double loss() const;             // nats / tokens
};

/// Paperno et al. 2016, by the conventions of lm-evaluation-harness' `lambada_openai`.
struct LambadaResult {
  double accuracy = 0;    // share of passages whose last word greedy decoding finds, token by token
  double perplexity = 0;  // e^(mean over passages of −log probability of the last word)
  std::int64_t passages = 0;
};

/// Warstadt et al. 2020.
struct BlimpResult {
  struct Share {
    std::string name;
    std::int64_t pairs = 0;
    double accuracy = 0;  // share with p(good) > p(bad), of whole sentences
  };
  std::vector<Share> phenomena;

  double accuracy() const;  // mean over phenomena
};

/// The text's first token is predicted from the tokenizer's end of text; windows are those of
/// rolling_windows(). Throws ConfigError where the tokenizer has no end of text.
WikitextResult evaluate_wikitext(const TextModel& model,
                                 const std::vector<WikitextArticle>& articles);

/// The last word's tokens are those that follow the passage's in the tokens of both together. Of a
/// passage that does not fit into the context with them, the end is kept. Throws DataError naming
/// the line of a last word that does not fit into the context, or of which no token is left.
LambadaResult evaluate_lambada(const TextModel& model, const std::vector<LastWord>& passages);

/// A sentence is a document: it follows the tokenizer's end of text. Throws ConfigError where there
/// is none.
BlimpResult evaluate_blimp(const TextModel& model, const std::vector<Phenomenon>& phenomena);

}  // namespace hew::train
