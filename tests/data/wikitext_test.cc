#include "data/wikitext.h"

#include <doctest/doctest.h>

#include "tests/data/sample_text.h"
#include "tests/io/scratch.h"

namespace hew::test {

TEST_CASE("text gets back what WikiText's tokenizer took from it") {
  const auto check = [](std::string_view from, std::string_view to) {
    CHECK(detokenize_wikitext(from) == to);
  };
  check("It cost 1 @,@ 000 @.@ 5 , 30 @-@ odd .", "It cost 1,000.5, 30-odd .");
  check("( see [ 1 ] ; here ) : { a }", "(see [1]; here): {a}");
  check("a \" quoted word \" and \" another one", "a \"quoted word\" and \" another one");
  check("Tom 's hats ' brims", "Tom's hats' brims");
  check(" = = = Deep = = = \n \n Text \n", " === Deep ===\n\nText\n");
  check("5 \u00b0 C", "5\u00b0C");
  check("", "");
}

TEST_CASE("articles begin at headings of the first level and count the words they came with") {
  const Scratch scratch;
  const std::string path = scratch / "wiki.tokens";
  write_bytes(path,
              " \n = One = \n \n = = Part = = \n a , b \n = x\n"
              " = Two = \n c @-@ d \n");
  const auto articles = read_wikitext(path);
  REQUIRE(articles.size() == 2);
  CHECK(articles[0].words == 13);
  CHECK(articles[0].bytes == 39);
  CHECK(articles[0].text == " = One =\n\n== Part ==\na, b\n= x");
  CHECK(articles[1].words == 6);
  CHECK(articles[1].text == " = Two =\nc-d\n");
  CHECK(read_wikitext(path, /*limit=*/1).size() == 1);
}

TEST_CASE("a file that is no text is an error that names it") {
  const Scratch scratch;
  const std::string path = scratch / "wiki.tokens";
  const auto error = [&] { return data_error_of([&] { read_wikitext(path); }); };
  CHECK(error().starts_with(path + ": "));
  write_bytes(path, " \n \n");
  CHECK(error() == path + ": holds no text");
  write_bytes(path, " = One = \n \xff \n");
  CHECK(error() == path + ":2: not UTF-8");
}

TEST_CASE("WikiText-2's test split") {
  const auto text = shared_text("wikitext-2/wiki.test.tokens.xz");
  if (!text) {
    MESSAGE("skipped: no shared development texts");
    return;
  }
  const Scratch scratch;
  write_bytes(scratch / "wiki.tokens", *text);
  std::int64_t words = 0;
  const auto articles = read_wikitext(scratch / "wiki.tokens");
  for (const WikitextArticle& article : articles) words += article.words;
  CHECK(articles.size() == 62);
  CHECK(words == 241211);  // and 4358 ends of lines make the 245569 of Merity et al. 2016
}

}  // namespace hew::test
