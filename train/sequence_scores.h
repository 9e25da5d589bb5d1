#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dist/comm.h"
#include "layers/language_model.h"

namespace hew::train {

/// Tokens of which the last `scored` ones are predicted, each from all in front of it.
struct ScoredTokens {
  std::vector<std::int32_t> tokens;
  std::int64_t scored = 0;
};

struct SequenceScore {
  double log_probability = 0;  // Σ over the scored tokens, nats
  bool greedy = false;         // each of them has the largest logit, the first of equals
};

struct ScoringOptions {
  std::int64_t batch = 1;  // as many tokens at a time as so many contexts have
  bool greedy = false;     // find out; costs a copy of the scored tokens' logits to the host
};

/// One score a sequence, in order. Sequences of similar length are computed together, padded on the
/// right, which a causal model cannot see; the batches are split over the ranks, and every rank
/// gets all scores. Log probabilities are computed in float32, or float64 where the model is, and
/// added in float64. Throws ShapeError for a sequence without a token to predict, or one to predict
/// it from, or with more tokens than the context and one; Error if a score is not finite.
std::vector<SequenceScore> score_sequences(const layers::LanguageModel& model,
                                           const std::vector<ScoredTokens>& sequences,
                                           const ScoringOptions& options, dist::Communicator& comm,
                                           const Stream& stream);

/// Splits a text of any length so that every token is predicted once: the first from `prefix`, the
/// others in stretches of `context` tokens of which each sees its stretch and the token in front;
/// the last stretch sees as much as the context holds (`loglikelihood_rolling` of
/// lm-evaluation-harness).
std::vector<ScoredTokens> rolling_windows(std::span<const std::int32_t> tokens, std::int32_t prefix,
                                          std::int64_t context);

}  // namespace hew::train
