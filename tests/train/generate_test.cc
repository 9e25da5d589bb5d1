#include "train/generate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "tests/support/device.h"
#include "tests/support/sizes.h"
#include "tests/support/small_model.h"

namespace hew::test {
namespace {

constexpr std::int64_t kVocab = SmallModel::kVocab;
constexpr std::int64_t kContext = 11;

std::vector<std::int32_t> generated(const layers::LanguageModel& model,
                                    const std::vector<std::int32_t>& prompt,
                                    const train::GenerateOptions& options) {
  std::vector<std::int32_t> tokens;
  train::generate(
      model, prompt, options, [&](std::int32_t token) { tokens.push_back(token); }, test_stream());
  return tokens;
}

// Greedy, everything computed anew for each token.
std::vector<std::int32_t> without_cache(const layers::LanguageModel& model,
                                        const std::vector<std::int32_t>& prompt, int count) {
  std::vector<std::int32_t> seen = prompt;
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < count; ++i) {
    if (std::ssize(seen) > kContext)
      seen.erase(seen.begin(), seen.end() - kContext / 2);
    ag::ForwardContext context;
    const Tensor ids = Tensor::from(seen, {1, std::ssize(seen)}, test_stream());
    const auto logits = model.forward(ids, context).value().to_vector<double>();
    const auto last = logits.end() - kVocab;
    const auto best = std::max_element(last, logits.end()) - last;
    tokens.push_back(static_cast<std::int32_t>(best));
    seen.push_back(tokens.back());
  }
  return tokens;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("greedy tokens with the cache are those without, also past the context") {
  for (const auto family : {layers::ModelFamily::kGpt2, layers::ModelFamily::kLlama}) {
    const layers::LanguageModel model = make_model({.family = family, .context = kContext});
    for (const std::int64_t length : {std::int64_t{1}, std::int64_t{4}, kContext}) {
      std::vector<std::int32_t> prompt;
      for (std::int64_t i = 0; i < length; ++i) {
        prompt.push_back(static_cast<std::int32_t>((7 * i + 3) % kVocab));
      }
      const train::GenerateOptions options{.tokens = 40, .sampling = {.temperature = 0}};
      CHECK(generated(model, prompt, options) == without_cache(model, prompt, 40));
    }
  }
}

TEST_CASE("draws depend on the seed alone") {
  const layers::LanguageModel model =
      make_model({.family = layers::ModelFamily::kGpt2, .context = kContext});
  const auto with_seed = [&](std::uint64_t seed) {
    return generated(model, {1, 2, 3}, {.tokens = 30, .sampling = {.seed = seed}});
  };
  CHECK(with_seed(1) == with_seed(1));
  CHECK(with_seed(1) != with_seed(2));
}

TEST_CASE("end of text ends, and tokens past the tokenizer's are never drawn") {
  const layers::LanguageModel model =
      make_model({.family = layers::ModelFamily::kGpt2, .context = kContext});
  const train::SamplingOptions hot{.temperature = 50, .top_k = 0};
  const auto tokens = generated(model, {1}, {.tokens = 200, .sampling = hot, .vocab = 9});
  CHECK(tokens.size() == 200);
  CHECK(*std::ranges::max_element(tokens) == 8);
  const auto ended = generated(
      model, {1}, {.tokens = 200, .sampling = hot, .vocab = 9, .end_of_text = tokens[20]});
  CHECK(std::ranges::find(ended, tokens[20]) == ended.end());
  CHECK(ended.size() <= 20);
  CHECK(std::equal(ended.begin(), ended.end(), tokens.begin()));
}

TEST_CASE("draws follow softmax(z / temperature) within top-k and top-p") {
  const std::vector<double> z{1.0, 3.0, -2.0, 2.0};
  const Tensor logits = Tensor::from(z, {1, 4}, test_stream());
  const std::int64_t draws = test::cut(20000, 1000);
  const auto frequencies = [&](const train::SamplingOptions& options) {
    std::vector<double> counts(4, 0);
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(draws); ++i) {
      counts[static_cast<std::size_t>(train::sample_token(logits, 4, i, options))] +=
          1.0 / static_cast<double>(draws);
    }
    return counts;
  };
  const auto check = [&](const std::vector<double>& got, const std::vector<double>& weights) {
    double sum = 0;
    for (const double w : weights) sum += w;
    for (std::size_t i = 0; i < 4; ++i) {
      // Five standard deviations of a frequency near 1/2.
      CHECK(std::abs(got[i] - weights[i] / sum) <= 5 * 0.5 / std::sqrt(static_cast<double>(draws)));
      if (weights[i] == 0)
        CHECK(got[i] == 0);
    }
  };
  const auto e = [](double x) { return std::exp(x / 2); };
  check(frequencies({.temperature = 2, .top_k = 0}), {e(1), e(3), e(-2), e(2)});
  check(frequencies({.temperature = 2, .top_k = 2}), {0, e(3), 0, e(2)});
  // The two best reach 0.78 of the whole, the best alone 0.49.
  check(frequencies({.temperature = 2, .top_k = 0, .top_p = 0.7}), {0, e(3), 0, e(2)});
  check(frequencies({.temperature = 0}), {0, 1, 0, 0});
}

TEST_CASE("what cannot be continued is an error") {
  const layers::LanguageModel model =
      make_model({.family = layers::ModelFamily::kGpt2, .context = kContext});
  const auto refused = [&](const std::vector<std::int32_t>& prompt) {
    return error_of([&] { generated(model, prompt, {}); });
  };
  CHECK(refused({}) == "the prompt is empty; the model needs a first token");
  CHECK(refused(std::vector<std::int32_t>(kContext + 1, 0)) ==
        "the prompt has 12 tokens, more than the model's context of 11");
  CHECK(refused({3, 37}) == "the prompt has token 37, outside of the model's vocabulary of 37");
  const Tensor broken = Tensor::from(std::vector<float>{0, std::nanf("")}, {1, 2}, test_stream());
  CHECK(error_of([&] { train::sample_token(broken, 2, 0, {}); }) ==
        "[generate] the model gives logits that are not finite");
}

}  // namespace hew::test
