#include "train/tasks.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"
#include "tests/io/scratch.h"
#include "tests/support/device.h"

namespace hew::test {
namespace {

constexpr std::int64_t kContext = 8;
constexpr std::int64_t kWidth = 8;

layers::LanguageModel make_model() {
  return {{.family = layers::ModelFamily::kGpt2,
           .layers = 1,
           .heads = 2,
           .kv_heads = 2,
           .width = kWidth,
           .mlp_width = 12,
           .context = kContext,
           .vocab = 257,
           .tied_embeddings = false,
           .init_std = 0.5},
          {.seed = 5, .dtype = DType::kFloat32, .stream = test_stream()}};
}

// All logits 0: every token has a probability of 1/257.
layers::LanguageModel uniform_model() {
  layers::LanguageModel model = make_model();
  for (ag::Parameter* parameter : model.parameters()) {
    if (parameter->name == "head.weight")
      parameter->var.mutable_value().fill_zero();
  }
  return model;
}

// After z follows ' ', then a, then b, then z, nearly surely; after all else anything.
layers::LanguageModel circle_model() {
  constexpr std::string_view kCircle = "z ab";
  layers::LanguageModel model = make_model();
  for (ag::Parameter* parameter : model.parameters()) {
    Tensor& value = parameter->var.mutable_value();
    const bool table = parameter->name == "token_embedding.weight";
    if (parameter->name.starts_with("final_norm."))
      continue;
    std::vector<float> values(static_cast<std::size_t>(value.numel()), 0);
    if (table || parameter->name == "head.weight") {
      for (std::size_t i = 0; i < kCircle.size(); ++i) {
        const char letter = kCircle[table ? i : (i + 1) % kCircle.size()];
        values[static_cast<std::size_t>(letter * kWidth) + i] = 20;
      }
    }
    value.copy_from(Tensor::from(values, value.shape(), test_stream()));
  }
  return model;
}

// A model, read as bytes.
class OnBytes {
 public:
  explicit OnBytes(layers::LanguageModel model) : model_(std::move(model)) {}

  train::TextModel text_model() {
    return {
        .model = model_, .tokenizer = bytes_, .comm = alone_, .stream = test_stream(), .batch = 2};
  }

 private:
  layers::LanguageModel model_;
  ByteTokenizer bytes_;
  dist::LocalCommunicator alone_;
};

// The 256 bytes, without end of text.
class EndlessTokenizer final : public Tokenizer {
 public:
  std::string_view kind() const override { return "endless"; }
  std::int64_t vocab_size() const override { return 256; }
  std::optional<std::int32_t> end_of_text() const override { return {}; }
  std::vector<std::int32_t> encode(std::string_view text) const override {
    return bytes_.encode(text);
  }
  std::string_view piece(std::int32_t token) const override { return bytes_.piece(token); }
  std::string serialized() const override { return {}; }

 private:
  ByteTokenizer bytes_;
};

LastWord last_word(const std::string& passage, const std::string& word) {
  return {.passage = passage, .word = word, .where = "test.txt:3"};
}

}  // namespace

TEST_CASE("a uniform model's word perplexity is V^(tokens / words)") {
  OnBytes uniform(uniform_model());
  const std::vector<WikitextArticle> articles{
      {.text = "some words, more than a context", .words = 7, .bytes = 40},
      {.text = "x", .words = 1, .bytes = 3}};
  const auto result = train::evaluate_wikitext(uniform.text_model(), articles);
  CHECK(result.articles == 2);
  CHECK(result.words == 8);
  CHECK(result.bytes == 43);
  CHECK(result.tokens == 32);
  CHECK(result.word_perplexity() == doctest::Approx(std::pow(257.0, 32.0 / 8)).epsilon(1e-5));
  CHECK(result.loss() == doctest::Approx(std::log(257.0)).epsilon(1e-6));
  CHECK(result.bits_per_byte() == doctest::Approx(32 * std::log2(257.0) / 43).epsilon(1e-6));
}

TEST_CASE("a text's first token is predicted from end of text, each other one from its window") {
  OnBytes circle(circle_model());
  const auto nats = [&](const std::string& text) {
    return train::evaluate_wikitext(circle.text_model(), {{.text = text, .words = 1, .bytes = 1}})
        .nats;
  };
  // Only the first letter is a surprise, also where windows meet.
  CHECK(nats("z abz abz abz abz abz a") == doctest::Approx(std::log(257.0)).epsilon(1e-3));
  CHECK(nats("z abz abb") > 20);
}

TEST_CASE("a last word counts where all of its tokens are the greedy ones") {
  OnBytes circle(circle_model());
  const std::vector<LastWord> passages{last_word("qz", " ab"), last_word("z", " abz"),
                                       last_word("z", " aba"), last_word("z", " bb"),
                                       last_word("qqqqqqqqqqqqqqqqz", " ab")};
  const auto result = train::evaluate_lambada(circle.text_model(), passages);
  CHECK(result.passages == 5);
  CHECK(result.accuracy == 0.6);
  const auto right = train::evaluate_lambada(circle.text_model(), {passages[0], passages[1]});
  CHECK(right.accuracy == 1);
  CHECK(right.perplexity == doctest::Approx(1).epsilon(1e-3));

  OnBytes uniform(uniform_model());
  const auto guessed = train::evaluate_lambada(uniform.text_model(), passages);
  CHECK(guessed.accuracy == 0);
  CHECK(guessed.perplexity == doctest::Approx(std::pow(257.0, 17.0 / 5)).epsilon(1e-5));
}

TEST_CASE("of a long passage the end is kept") {
  OnBytes random(make_model());
  const auto perplexity = [&](const std::string& passage) {
    return train::evaluate_lambada(random.text_model(), {last_word(passage, " ab")}).perplexity;
  };
  // A context of 8 holds 6 bytes in front of a word of 3.
  CHECK(perplexity("once upon a time") == perplexity("a time"));
  CHECK(perplexity("once upon a time") != perplexity(" time"));
}

TEST_CASE("pairs: the share where the good sentence is the more probable, mean over phenomena") {
  const MinimalPair right{.good = "z abz abz ab", .bad = "z bbz abz ab"};
  const MinimalPair wrong{.good = "z ba", .bad = "z ab"};
  const std::vector<Phenomenon> phenomena{{.name = "one", .pairs = {right, wrong, right}},
                                          {.name = "two", .pairs = {right}}};
  OnBytes circle(circle_model());
  const auto result = train::evaluate_blimp(circle.text_model(), phenomena);
  REQUIRE(result.phenomena.size() == 2);
  CHECK(result.phenomena[0].name == "one");
  CHECK(result.phenomena[0].pairs == 3);
  CHECK(result.phenomena[0].accuracy == doctest::Approx(2.0 / 3));
  CHECK(result.phenomena[1].accuracy == 1);
  CHECK(result.accuracy() == doctest::Approx(5.0 / 6));

  OnBytes uniform(uniform_model());
  CHECK(train::evaluate_blimp(uniform.text_model(), phenomena).accuracy() == 0);  // ties
}

TEST_CASE("what a task cannot score is an error") {
  OnBytes circle(circle_model());
  const auto error = [&](const LastWord& passage) {
    return data_error_of([&] { train::evaluate_lambada(circle.text_model(), {passage}); });
  };
  CHECK(error(last_word("z", " abcdefgh")) ==
        "test.txt:3: its last word has 9 tokens, more than the model's context of 8");
  CHECK(error(last_word("z", "")) == "test.txt:3: its last word has no tokens of its own");

  const layers::LanguageModel model = circle_model();
  const EndlessTokenizer endless;
  dist::LocalCommunicator alone;
  const train::TextModel without_end{
      .model = model, .tokenizer = endless, .comm = alone, .stream = test_stream()};
  CHECK_THROWS_AS(train::evaluate_wikitext(without_end, {}), ConfigError);
  CHECK_THROWS_AS(train::evaluate_blimp(without_end, {}), ConfigError);
}

}  // namespace hew::test
