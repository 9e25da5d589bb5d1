#include "app/data_command.h"

#include <doctest/doctest.h>

#include <sstream>

#include "core/error.h"
#include "data/image_set.h"
#include "data/loader.h"
#include "data/token_corpus.h"
#include "io/atomic_file.h"
#include "tests/data/sample_images.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

void run(std::vector<std::string> words) {
  CLI::App app;
  dist::LocalCommunicator alone;
  const AppContext context{.comm = alone};
  add_data_commands(app, context);
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

TEST_CASE("hew data batches writes the windows of the steps, inputs and targets in one") {
  const test::Scratch scratch;
  const std::string corpus = scratch / "corpus.h5";
  const std::string out = scratch / "out.bin";
  std::string text;
  for (int i = 0; i < 300; ++i) text += std::to_string(i) + ' ';
  test::write_bytes(scratch / "in.txt", text);
  run({"data", "tokenize", "--tokenizer", "bytes", scratch / "in.txt", "-o", corpus});
  test::write_bytes(scratch / "recipe.yaml",
                    "run: {dir: run, seed: 3}\n"
                    "model: {family: gpt2, layers: 1, heads: 2, width: 16, context: 8}\n"
                    "data: {train: unset}\n"
                    "train: {steps: 3, batch: 2}\n"
                    "optim: {lr: 1e-3}\n");
  run({"data", "batches", scratch / "recipe.yaml", "data.train=" + corpus, "train.batch=6",
       "--steps", "5", out});
  std::vector<std::int32_t> written(5 * 6 * 9);
  const FileDescriptor file = open_to_read(out);
  REQUIRE(size_of_file(file, out) == 4 * std::ssize(written));
  read_at(file, out, 0, std::as_writable_bytes(std::span(written)));
  const auto dataset = std::make_shared<const TokenDataset>(
      std::make_shared<const TokenCorpus>(TokenCorpus::open({corpus})), 8);
  std::vector<std::int32_t> window(9);
  for (std::int64_t sample = 0; sample < 30; ++sample) {
    dataset->sample(3, sample, window);
    CHECK(std::equal(window.begin(), window.end(), written.begin() + sample * 9));
  }
  const std::string recipe = scratch / "recipe.yaml";
  CHECK_THROWS_AS(run({"data", "batches", recipe, "--steps", "1"}), ConfigError);
  CHECK_THROWS_AS(run({"data", "batches", recipe, recipe, out, "--steps", "1"}), ConfigError);
  CHECK_THROWS_AS(run({"data", "batches", "data.train=" + corpus, out, "--steps", "1"}),
                  ConfigError);
  CHECK_THROWS_AS(run({"data", "batches", recipe, out}), CLI::RequiredError);
  CHECK_THROWS_AS(run({"data", "batches", recipe, out, "--steps", "0"}), CLI::ValidationError);
}

TEST_CASE("hew data images packs what it is given") {
  const test::Scratch scratch;
  const std::string images = test::write_idx_pair(scratch.path(), 7, 5, 3);
  const std::string out = scratch / "pack.h5";
  run({"data", "images", "--input", images, "--output", out});
  CHECK(open_image_set(out)->size() == 7);
  CHECK_THROWS_AS(run({"data", "images", images, "-o", out}), ConfigError);
  run({"data", "images", images, "-o", out, "--force", "--size", "2", "--square"});
  CHECK(open_image_set(out)->shape() == ImageShape{1, 2, 2});
  run({"data", "info", out});
  CHECK_THROWS_AS(run({"data", "info", scratch.path()}), DataError);  // the pack and its source
  CHECK_THROWS_AS(run({"data", "images", images, "-o", scratch / "b.h5", "--size", "0"}),
                  CLI::ValidationError);
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
