#include "app/data_command.h"

#include <doctest/doctest.h>

#include <sstream>

#include "core/error.h"
#include "data/token_corpus.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

void run(std::vector<std::string> words) {
  CLI::App app;
  add_data_commands(app);
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  app.parse(words);
}

}  // namespace

TEST_CASE("hew data tokenize and info") {
  const test::Scratch scratch;
  const std::string in = scratch / "in.txt";
  const std::string out = scratch / "out.h5";
  const std::string valid = scratch / "valid.h5";
  test::write_bytes(in, "one\ntwo\nthree\nfour\n");
  run({"data", "tokenize", "--tokenizer", "bytes", "--documents", "line", in, "-o", out,
       "--valid-fraction", "0.3", "--valid-output", valid});
  CHECK(TokenCorpus::open({out}).info().documents == 3);
  CHECK(TokenCorpus::open({valid}).info().bytes == 4);
  run({"data", "info", out});
  CHECK_THROWS_AS(run({"data", "tokenize", in, "-o", out}), ConfigError);
  run({"data", "tokenize", in, "-o", out, "--force"});
  CHECK(TokenCorpus::open({out}).info().documents == 1);
  CHECK_THROWS_AS(run({"data", "info", in}), DataError);
  CHECK_THROWS_AS(run({"data", "tokenize", in, "-o", out, "--tokenizer", "words"}),
                  CLI::ValidationError);
  CHECK_THROWS_AS(run({"data", "tokenize", in}), CLI::RequiredError);
  CHECK_THROWS_AS(run({"data"}), CLI::RequiredError);
}

TEST_CASE("hew data tokenize reads standard input") {
  const test::Scratch scratch;
  const std::string out = scratch / "out.h5";
  std::istringstream text("one\ntwo\n");
  std::streambuf* old = std::cin.rdbuf(text.rdbuf());
  run({"data", "tokenize", "-", "-o", out, "--valid-fraction", "0.5", "--valid-output",
       scratch / "valid.h5"});
  std::cin.rdbuf(old);
  CHECK(TokenCorpus::open({out}).info().bytes == 4);
}

}  // namespace hew
