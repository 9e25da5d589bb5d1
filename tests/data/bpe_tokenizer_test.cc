#include "data/bpe_tokenizer.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/data/sample_text.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

BpeVocabulary small_vocabulary() {
  const test::Scratch scratch;
  test::write_small_gpt2(scratch / "encoder.json", scratch / "vocab.bpe");
  return read_gpt2_vocabulary(scratch / "encoder.json", scratch / "vocab.bpe");
}

using Words = std::vector<std::string>;

Words words_of(std::string_view text) {
  Words words;
  Gpt2Splitter().split(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

Words pieces_of(const Tokenizer& tokenizer, std::string_view text) {
  Words pieces;
  for (const std::int32_t token : tokenizer.encode(text)) {
    pieces.emplace_back(tokenizer.piece(token));
  }
  return pieces;
}

}  // namespace

TEST_CASE("GPT-2 words") {
  CHECK(words_of("I'm 42, they'll  go\n\nnow ") ==
        Words{"I", "'m", " 42", ",", " they", "'ll", " ", " go", "\n", "\n", "now", " "});
  CHECK(words_of("a\u00a0b\u3000\u3000c\u180ed") ==
        Words{"a", "\u00a0", "b", "\u3000", "\u3000", "c", "\u180e", "d"});
  CHECK(words_of("caf\u00e9\u00bd \u4f60\u597d!") ==
        Words{"caf\u00e9", "\u00bd", " \u4f60\u597d", "!"});
  CHECK(words_of("").empty());
  CHECK_THROWS_AS(words_of("ab\xff"), DataError);
  CHECK_THROWS_AS(words_of("ab \xc3"), DataError);
}

TEST_CASE("merges join in their order, the leftmost first") {
  const BpeTokenizer tokenizer(small_vocabulary());
  CHECK(tokenizer.vocab_size() == 256 + 9 + 1);
  CHECK(tokenizer.end_of_text() == 265);
  CHECK(tokenizer.piece(265) == kEndOfText);
  CHECK(pieces_of(tokenizer, "the then and") == Words{"the", " the", "n", " ", "and"});
  CHECK(pieces_of(tokenizer, "ththe") == Words{"th", "the"});
  CHECK(pieces_of(tokenizer, " ther") == Words{" the", "r"});  // th+e joins before e+r
  CHECK(pieces_of(tokenizer, "hanand") == Words{"h", "an", "and"});
  CHECK(pieces_of(tokenizer, "").empty());
  CHECK(tokenizer.encode(kEndOfText).size() > 1);  // text is never the special token
  CHECK(tokenizer.decode(tokenizer.encode(test::unicode_sample())) == test::unicode_sample());
}

TEST_CASE("a word of any length is encoded in reasonable time") {
  const BpeTokenizer tokenizer(small_vocabulary());
  std::string word;
  for (int i = 0; i < 100000; ++i) word += "the";
  CHECK(tokenizer.encode(word).size() == 100000);
}

TEST_CASE("the stored vocabulary reads back and damage is found") {
  const BpeTokenizer tokenizer(small_vocabulary());
  const std::string blob = tokenizer.serialized();
  const auto copy = make_tokenizer("gpt2", blob);
  CHECK(copy->serialized() == blob);
  CHECK(copy->sha256() == tokenizer.sha256());
  CHECK(copy->encode("the other and") == tokenizer.encode("the other and"));
  CHECK_THROWS_AS(make_tokenizer("gpt2", ""), DataError);
  CHECK_THROWS_AS(make_tokenizer("gpt2", "x" + blob), DataError);
  CHECK_THROWS_AS(make_tokenizer("gpt2", blob.substr(0, blob.size() / 2)), DataError);
  CHECK_THROWS_AS(make_tokenizer("gpt2", blob + "1 2\n"), DataError);
  BpeVocabulary missing = small_vocabulary();
  missing.pieces[3] = "zz";
  CHECK_THROWS_AS(BpeTokenizer{missing}, DataError);
  BpeVocabulary outside = small_vocabulary();
  outside.merges[0] = {1, 900};
  CHECK_THROWS_AS(BpeTokenizer{outside}, DataError);
}

TEST_CASE("broken vocabulary files are named") {
  const test::Scratch scratch;
  const std::string encoder = scratch / "encoder.json";
  const std::string merges = scratch / "vocab.bpe";
  const auto error = [&] {
    return test::data_error_of([&] { read_gpt2_vocabulary(encoder, merges); });
  };
  CHECK(error().starts_with(encoder + ":"));
  test::write_small_gpt2(encoder, merges);
  test::write_bytes(merges, "#version: 0.2\nt h\nt xyz\n");
  CHECK(error().starts_with(merges + ":3:"));
  test::write_bytes(encoder, "{\"a\": 0, \"b\": 0}");
  CHECK(error().starts_with(encoder + ":"));
  test::write_bytes(encoder, "{\"a\": ");
  CHECK(error().starts_with(encoder + ":"));
}

}  // namespace hew
