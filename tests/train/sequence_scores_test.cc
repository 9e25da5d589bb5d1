#include "train/sequence_scores.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "tests/support/device.h"
#include "tests/support/small_model.h"

namespace hew::test {
namespace {

constexpr std::int64_t kVocab = SmallModel::kVocab;
constexpr std::int64_t kContext = 53;

// Sequences of all lengths that fit, most of them scored in part.
std::vector<train::ScoredTokens> all_lengths() {
  std::vector<train::ScoredTokens> sequences;
  for (std::int64_t length = 2; length <= kContext + 1; ++length) {
    train::ScoredTokens sequence{.tokens = {}, .scored = 1 + (length * 7) % (length - 1)};
    for (std::int64_t i = 0; i < length; ++i)
      sequence.tokens.push_back(static_cast<std::int32_t>((i * i + 5 * length + 3) % kVocab));
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

// One sequence by itself, added up on the host.
train::SequenceScore by_hand(const layers::LanguageModel& model,
                             const train::ScoredTokens& sequence) {
  const std::int64_t inputs = std::ssize(sequence.tokens) - 1;
  const std::vector<std::int32_t> ids(sequence.tokens.begin(), sequence.tokens.end() - 1);
  ag::ForwardContext context;
  const std::vector<double> logits =
      model.forward(Tensor::from(ids, {1, inputs}, test_stream()), context)
          .value()
          .to_vector<double>();
  train::SequenceScore score{.log_probability = 0, .greedy = true};
  for (std::int64_t t = inputs - sequence.scored; t < inputs; ++t) {
    const auto row = logits.begin() + t * kVocab;
    const auto target = sequence.tokens[static_cast<std::size_t>(t) + 1];
    double sum = 0;
    for (auto z = row; z != row + kVocab; ++z) sum += std::exp(*z);
    score.log_probability += row[target] - std::log(sum);
    score.greedy = score.greedy && std::max_element(row, row + kVocab) == row + target;
  }
  return score;
}

std::vector<train::SequenceScore> scored(const layers::LanguageModel& model,
                                         const std::vector<train::ScoredTokens>& sequences,
                                         std::int64_t batch) {
  dist::LocalCommunicator alone;
  return train::score_sequences(model, sequences, {.batch = batch, .greedy = true}, alone,
                                test_stream());
}

}  // namespace

TEST_CASE("scores of sequences of all lengths are those of each by itself") {
  for (const auto family : {layers::ModelFamily::kGpt2, layers::ModelFamily::kLlama}) {
    const layers::LanguageModel model = make_model(
        {.family = family, .context = kContext, .init_std = 0.5, .dtype = DType::kFloat64});
    std::vector<train::ScoredTokens> sequences = all_lengths();
    // Some that the model would continue so itself.
    for (std::size_t i = 0; i < sequences.size(); i += 3) {
      for (std::int32_t token = 0; token < kVocab; ++token) {
        sequences[i].tokens.back() = token;
        sequences[i].scored = 1;
        if (by_hand(model, sequences[i]).greedy)
          break;
      }
    }
    for (const std::int64_t batch : {1, 3}) {
      const auto scores = scored(model, sequences, batch);
      REQUIRE(scores.size() == sequences.size());
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        const train::SequenceScore wanted = by_hand(model, sequences[i]);
        CHECK(std::abs(scores[i].log_probability - wanted.log_probability) <=
              1e-12 * std::abs(wanted.log_probability));
        CHECK(scores[i].greedy == wanted.greedy);
        if (i % 3 == 0)
          CHECK(scores[i].greedy);
      }
    }
  }
}

TEST_CASE("a model in float32 gives the scores of float64, nearly") {
  const auto sequences = all_lengths();
  const auto single = scored(make_model({.family = layers::ModelFamily::kGpt2,
                                         .context = kContext,
                                         .init_std = 0.5,
                                         .dtype = DType::kFloat32}),
                             sequences, /*batch=*/2);
  const auto twice = scored(make_model({.family = layers::ModelFamily::kGpt2,
                                        .context = kContext,
                                        .init_std = 0.5,
                                        .dtype = DType::kFloat64}),
                            sequences, /*batch=*/2);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    // A few hundred roundings of float32 in each token's logits, of size 10.
    const double tolerance = 1e-4 * static_cast<double>(sequences[i].scored);
    CHECK(std::abs(single[i].log_probability - twice[i].log_probability) <= tolerance);
  }
}

TEST_CASE("of equal logits the first is the greedy choice") {
  layers::LanguageModel model = make_model({.family = layers::ModelFamily::kLlama,
                                            .context = kContext,
                                            .init_std = 0.5,
                                            .dtype = DType::kFloat32});
  for (ag::Parameter* parameter : model.parameters()) {
    if (parameter->name == "final_norm.weight")
      parameter->var.mutable_value().fill_zero();
  }
  const auto scores =
      scored(model, {{.tokens = {3, 0, 0}, .scored = 2}, {.tokens = {3, 1}, .scored = 1}}, 1);
  CHECK(scores[0].greedy);
  CHECK(!scores[1].greedy);
  CHECK(scores[1].log_probability == doctest::Approx(-std::log(37.0)).epsilon(1e-6));
}

TEST_CASE("rolling windows predict every token once, the last with all the context there is") {
  const auto windows = [](const std::vector<std::int32_t>& tokens) {
    return train::rolling_windows(tokens, /*prefix=*/9, /*context=*/3);
  };
  CHECK(windows({}).empty());
  const auto check = [](const train::ScoredTokens& window, const std::vector<std::int32_t>& tokens,
                        std::int64_t count) {
    CHECK(window.tokens == tokens);
    CHECK(window.scored == count);
  };
  check(windows({1}).at(0), {9, 1}, 1);
  REQUIRE(windows({1, 2, 3}).size() == 1);
  check(windows({1, 2, 3})[0], {9, 1, 2, 3}, 3);
  const auto three = windows({1, 2, 3, 4, 5, 6, 7});
  REQUIRE(three.size() == 3);
  check(three[0], {9, 1, 2, 3}, 3);
  check(three[1], {3, 4, 5, 6}, 3);
  check(three[2], {4, 5, 6, 7}, 1);
}

TEST_CASE("what cannot be scored is an error") {
  layers::LanguageModel model = make_model({.family = layers::ModelFamily::kGpt2,
                                            .context = kContext,
                                            .init_std = 0.5,
                                            .dtype = DType::kFloat32});
  const auto refused = [&](const train::ScoredTokens& sequence) {
    CHECK_THROWS_AS(scored(model, {sequence}, 1), ShapeError);
  };
  refused({.tokens = {}, .scored = 0});
  refused({.tokens = {1, 2}, .scored = 0});
  refused({.tokens = {1, 2}, .scored = 2});
  refused({.tokens = std::vector<std::int32_t>(kContext + 2, 0), .scored = 1});
  CHECK(scored(model, {}, 1).empty());
  CHECK_THROWS_AS(scored(model, {{.tokens = {1, kVocab}, .scored = 1}}, 1), Error);
  ag::Parameter* first = model.parameters().front();
  first->var.mutable_value().copy_from(with_element(first->var.value(), /*at=*/0, std::nan("")));
  CHECK_THROWS_AS(scored(model, {{.tokens = {1, 2}, .scored = 1}}, 1), Error);
}

}  // namespace hew::test
