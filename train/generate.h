#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "layers/language_model.h"

namespace hew::train {

/// How a token is drawn from logits z: p = softmax(z / temperature) over the top_k largest, of
/// which the smallest set of the most probable that together reach top_p is kept.
struct SamplingOptions {
  double temperature = 0.8;  // 0: always the largest logit, the first of equals
  std::int64_t top_k = 40;   // 0: all
  double top_p = 1;          // (0, 1]
  std::uint64_t seed = 1;
};

/// A token in [0, vocab), vocab ≤ V, from logits [1, V] float32 or float64. It depends on (seed,
/// index, logits) alone. Throws Error if a logit is not finite.
std::int32_t sample_token(const Tensor& logits, std::int64_t vocab, std::uint64_t index,
                          const SamplingOptions& options);

struct GenerateOptions {
  std::int64_t tokens = 200;  // at most
  SamplingOptions sampling;
  std::optional<std::int64_t> vocab = {};        // tokens from here on are never drawn
  std::optional<std::int32_t> end_of_text = {};  // ends the text, and is not reported
};

/// Continues `prompt`, calling `on_token` with each new token as soon as it is known. Every token
/// is computed once, its keys and values kept; when the context is full, the last half of it is
/// computed anew as the start of a fresh one. Throws ConfigError if the prompt is empty, longer
/// than the context, or has a token outside the vocabulary.
void generate(const layers::LanguageModel& model, const std::vector<std::int32_t>& prompt,
              const GenerateOptions& options, const std::function<void(std::int32_t)>& on_token,
              const Stream& stream);

}  // namespace hew::train
