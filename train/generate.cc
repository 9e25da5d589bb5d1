#include "train/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"

namespace hew::train {
namespace {

// Keeps the draws of generation apart from all others of the same seed.
constexpr std::uint64_t kSamplingStream = 0x67656e;

std::vector<double> as_doubles(const Tensor& logits) {
  if (logits.dtype() == DType::kFloat64)
    return logits.to_vector<double>();
  const std::vector<float> values = logits.to_vector<float>();
  return {values.begin(), values.end()};
}

// The indices of the `count` largest, best first; of equals the first.
std::vector<std::int32_t> largest(const std::vector<double>& values, std::int64_t count) {
  std::vector<std::int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](std::int32_t i) { return values[static_cast<std::size_t>(i)]; };
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(order.begin(), end, order.end(), [&](std::int32_t a, std::int32_t b) {
    return at(a) > at(b) || (at(a) == at(b) && a < b);
  });
  order.erase(end, order.end());
  return order;
}

void check_prompt(const layers::ModelConfig& config, const std::vector<std::int32_t>& prompt) {
  require<ConfigError>(!prompt.empty(), "the prompt is empty; the model needs a first token");
  require<ConfigError>(std::ssize(prompt) <= config.context,
                       "the prompt has {} tokens, more than the model's context of {}",
                       prompt.size(), config.context);
  for (const std::int32_t token : prompt) {
    require<ConfigError>(token >= 0 && token < config.vocab,
                         "the prompt has token {}, outside of the model's vocabulary of {}", token,
                         config.vocab);
  }
}

// Logits [1, V] after the last of the tokens.
Tensor feed(const layers::LanguageModel& model, const std::vector<std::int32_t>& tokens,
            layers::KvCache& cache, const Stream& stream) {
  const std::int64_t count = std::ssize(tokens);
  ag::ForwardContext context;
  const Tensor logits =
      model.forward(Tensor::from(tokens, {1, count}, stream), context, &cache).value();
  return logits.rows(count - 1, 1);
}

}  // namespace

std::int32_t sample_token(const Tensor& logits, std::int64_t vocab, std::uint64_t index,
                          const SamplingOptions& options) {
  std::vector<double> values = as_doubles(logits);
  values.resize(static_cast<std::size_t>(vocab));
  for (const double value : values) {
    require<Error>(std::isfinite(value), "[generate] the model gives logits that are not finite");
  }
  if (options.temperature == 0)
    return largest(values, 1).front();
  const std::int64_t kept = options.top_k == 0 ? vocab : std::min(options.top_k, vocab);
  std::vector<std::int32_t> candidates = largest(values, kept);
  const double best = values[static_cast<std::size_t>(candidates.front())];
  std::vector<double> weights;
  weights.reserve(candidates.size());
  for (const std::int32_t token : candidates) {
    weights.push_back(
        std::exp((values[static_cast<std::size_t>(token)] - best) / options.temperature));
  }
  std::partial_sum(weights.begin(), weights.end(), weights.begin());
  const auto reaches = [&](double sum) {
    const auto found = std::lower_bound(weights.begin(), weights.end(), sum);
    return std::min(found - weights.begin(), std::ssize(weights) - 1);
  };
  const double total = weights[static_cast<std::size_t>(reaches(options.top_p * weights.back()))];
  // uniform() is below 1 and may be 0, so the sum looked for is the first above it.
  const double draw = total * static_cast<double>(uniform(options.seed, kSamplingStream, index));
  const auto chosen = std::upper_bound(weights.begin(), weights.end(), draw) - weights.begin();
  return candidates[static_cast<std::size_t>(chosen)];
}

void generate(const layers::LanguageModel& model, const std::vector<std::int32_t>& prompt,
              const GenerateOptions& options, const std::function<void(std::int32_t)>& on_token,
              const Stream& stream) {
  const layers::ModelConfig& config = model.config();
  check_prompt(config, prompt);
  const std::int64_t vocab = std::min(options.vocab.value_or(config.vocab), config.vocab);
  const std::int64_t half = std::max<std::int64_t>(1, config.context / 2);
  std::vector<std::int32_t> text = prompt;
  std::vector<std::int32_t> fresh = prompt;
  layers::KvCache cache{.capacity = config.context, .length = 0, .layers = {}};
  for (std::int64_t i = 0; i < options.tokens; ++i) {
    if (cache.length + std::ssize(fresh) > cache.capacity) {
      fresh.assign(text.end() - static_cast<std::ptrdiff_t>(half), text.end());
      cache.length = 0;
    }
    const Tensor logits = feed(model, fresh, cache, stream);
    const std::int32_t token =
        sample_token(logits, vocab, static_cast<std::uint64_t>(i), options.sampling);
    if (token == options.end_of_text)
      return;
    on_token(token);
    text.push_back(token);
    fresh.assign(1, token);
  }
}

}  // namespace hew::train
