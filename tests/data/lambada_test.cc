#include "data/lambada.h"

#include <doctest/doctest.h>

#include "tests/data/sample_text.h"
#include "tests/io/scratch.h"

namespace hew::test {

TEST_CASE("the last word follows the last space, in JSON lines and in plain text") {
  const Scratch scratch;
  const std::string json = scratch / "test.jsonl";
  write_bytes(json, "{\"text\": \"A \\\"b\\\"\\n\\nc  word\"}\n\n{\"text\": \"x y\", \"id\": 1}");
  auto passages = read_lambada(json);
  REQUIRE(passages.size() == 2);
  CHECK(passages[0].passage == "A \"b\"\n\nc");
  CHECK(passages[0].word == "  word");
  CHECK(passages[1].passage == "x");
  CHECK(passages[1].where == json + ":3");
  CHECK(read_lambada(json, /*limit=*/1).size() == 1);

  const std::string plain = scratch / "test.txt";
  write_bytes(plain, "one two \r\n\nthree four five\n");
  passages = read_lambada(plain);
  REQUIRE(passages.size() == 2);
  CHECK(passages[0].word == " two");
  CHECK(passages[1].passage == "three four");
  CHECK(passages[1].word == " five");
}

TEST_CASE("a broken passage is an error that names file and line") {
  const Scratch scratch;
  const std::string path = scratch / "test.jsonl";
  const auto error = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    return data_error_of([&] { read_lambada(path); });
  };
  CHECK(data_error_of([&] { read_lambada(path); }).starts_with(path + ": "));
  CHECK(error("") == path + ": holds no passage");
  CHECK(error("{\"text\": \"a b\"}\n{\"text\": \"a") == path + ":2: not a JSON object");
  CHECK(error("[1]\n") == path + ":1: not a JSON object");
  CHECK(error("\n{\"txt\": \"a b\"}\n") == path + ":2: has no text 'text'");
  CHECK(error("{\"text\": 5}\n") == path + ":1: has no text 'text'");
  CHECK(error("{\"text\": \"word\"}") ==
        path + ":1: expected a passage, a space and its last word");
  CHECK(error("{\"text\": \" word\"}") ==
        path + ":1: expected a passage, a space and its last word");
  CHECK(error("{\"text\": \"word \"}") ==
        path + ":1: expected a passage, a space and its last word");
}

TEST_CASE("LAMBADA's test split") {
  const auto json = shared_text("lambada/lambada_test.jsonl.xz");
  const auto plain = shared_text("lambada/lambada_test_plain_text.txt.xz");
  if (!json || !plain) {
    MESSAGE("skipped: no shared development texts");
    return;
  }
  const Scratch scratch;
  write_bytes(scratch / "test.jsonl", *json);
  write_bytes(scratch / "test.txt", *plain);
  const auto passages = read_lambada(scratch / "test.jsonl");
  CHECK(passages.size() == 5153);
  CHECK(passages.front().word == " signs");
  CHECK(read_lambada(scratch / "test.txt").size() == 5153);
}

}  // namespace hew::test
