#include "data/tokenizer.h"

#include <doctest/doctest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <sstream>

#include "core/error.h"
#include "data/sentencepiece_tokenizer.h"
#include "tests/data/sample_text.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

std::string train(const SentencePieceTraining& training, const std::string& text) {
  std::istringstream lines(text);
  return train_sentencepiece(
      training, [&](std::string& line) { return static_cast<bool>(std::getline(lines, line)); });
}

std::string pieces_of(const Tokenizer& tokenizer, const std::vector<std::int32_t>& tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text += tokenizer.piece(token);
  return text;
}

}  // namespace

TEST_CASE("bytes are their own tokens") {
  const ByteTokenizer bytes;
  CHECK(bytes.vocab_size() == 257);
  CHECK(bytes.encode("a\xff") == std::vector<std::int32_t>{97, 255});
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  CHECK(bytes.decode(bytes.encode(all)) == all);
  CHECK(bytes.decode(std::vector<std::int32_t>{104, 105, 256}) == "hi<|endoftext|>");
  CHECK_THROWS_AS(bytes.piece(257), DataError);
  CHECK_THROWS_AS(bytes.piece(-1), DataError);
}

TEST_CASE("the hash names kind and vocabulary") {
  // printf 'bytes\0' | sha256sum
  CHECK(ByteTokenizer().sha256() ==
        "388c5568fafc5325058396619a74cd28c3220a233a050d67bafe65dd313d0b23");
  CHECK(make_tokenizer("bytes", "")->sha256() == ByteTokenizer().sha256());
  CHECK(tokenizer_sha256("gpt2", "x") != tokenizer_sha256("gpt2", "y"));
  CHECK_THROWS_AS(make_tokenizer("words", ""), DataError);
  CHECK_THROWS_AS(make_tokenizer("bytes", "x"), DataError);
  CHECK_THROWS_AS(make_tokenizer("sentencepiece", ""), DataError);
  CHECK_THROWS_AS(make_tokenizer("sentencepiece", "not a model"), DataError);
}

TEST_CASE("SentencePiece trains alike each time and loses nothing") {
  const std::string text = test::sample_lines(300, 1);
  for (const SentencePieceTraining& training :
       {SentencePieceTraining{.vocab_size = 330, .model_type = "unigram"},
        SentencePieceTraining{.vocab_size = 420, .model_type = "bpe"}}) {
    CAPTURE(training.model_type);
    const std::string model = train(training, text);
    CHECK(model == train(training, text));
    const auto tokenizer = make_tokenizer("sentencepiece", model);
    CHECK(tokenizer->vocab_size() == training.vocab_size);
    REQUIRE(tokenizer->end_of_text());
    CHECK(tokenizer->piece(*tokenizer->end_of_text()) == kEndOfText);
    CHECK(tokenizer->serialized() == model);
    CHECK(tokenizer->encode(text).size() * 3 < text.size());
    for (const std::string& sample :
         {text, test::unicode_sample(), std::string("  two  spaces \n\n\ttab\n"), std::string(),
          std::string(kEndOfText)}) {
      const auto tokens = tokenizer->encode(sample);
      CHECK(tokenizer->decode(tokens) == sample);
      CHECK(pieces_of(*tokenizer, tokens) == sample);
    }
    CHECK_THROWS_AS(tokenizer->piece(420), DataError);
  }
}

TEST_CASE("SentencePiece takes lines that are longer than its trainer's limit") {
  std::string text = test::sample_lines(300, 1);
  for (char& c : text) c = c == '\n' ? ' ' : c;
  const auto tokenizer =
      make_tokenizer("sentencepiece", train({.vocab_size = 420, .model_type = "bpe"}, text));
  CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  CHECK(tokenizer->encode(text).size() * 3 < text.size());
}

TEST_CASE("SentencePiece says why it cannot train") {
  const std::string text = test::sample_lines(50, 1);
  CHECK_THROWS_AS(train({.vocab_size = 100, .model_type = "bpe"}, text), ConfigError);
  CHECK_THROWS_AS(train({.vocab_size = 300, .model_type = "words"}, text), ConfigError);
  CHECK_THROWS_AS(train({.vocab_size = 30000, .model_type = "bpe"}, text), ConfigError);
  CHECK_THROWS_AS(train({.vocab_size = 30000, .model_type = "unigram"}, text), ConfigError);
  CHECK_THROWS_AS(train({.vocab_size = 300, .model_type = "unigram"}, ""), ConfigError);
  CHECK_THROWS_AS(train({.vocab_size = 300, .model_type = "bpe"}, ""), ConfigError);
}

TEST_CASE("a SentencePiece model of other makers decodes as SentencePiece decodes it") {
  const test::Scratch scratch;
  const std::string text = test::sample_lines(300, 2);
  test::write_bytes(scratch / "text", text);
  std::string model;
  REQUIRE(sentencepiece::SentencePieceTrainer::Train(
              {{"input", (scratch / "text").string()},  // a space in front, NFKC, no bytes
               {"vocab_size", "200"},
               {"hard_vocab_limit", "false"},
               {"minloglevel", "3"}},
              nullptr, &model)
              .ok());
  sentencepiece::SentencePieceProcessor reference;
  REQUIRE(reference.LoadFromSerializedProto(model).ok());
  const auto tokenizer = make_tokenizer("sentencepiece", model);
  for (const std::string sample : {"the light was upon the earth.", "\u4f60 and the", " the", ""}) {
    const auto tokens = tokenizer->encode(sample);
    CHECK(tokenizer->decode(tokens) == reference.DecodeIds(tokens));
  }
}

}  // namespace hew
