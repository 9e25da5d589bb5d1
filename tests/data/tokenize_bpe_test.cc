// scripts/tokenize_bpe.py against the reader and the encoder here.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdlib>

#include "data/bpe_tokenizer.h"
#include "data/prepare.h"
#include "data/token_corpus.h"
#include "tests/data/sample_text.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

std::string python() {
  const char* named = std::getenv("HEW_PYTHON");
  return named != nullptr ? named : "python3";
}

bool python_has(const std::string& modules) {
  const std::string command = python() + " -c 'import " + modules + "' 2>/dev/null";
  if (std::system(command.c_str()) == 0)
    return true;
  MESSAGE("SKIPPED: ", python(), " lacks one of: ", modules, " (HEW_PYTHON names another)");
  return false;
}

bool run_script(const std::string& arguments) {
  const std::string script = HEW_SOURCE_DIR "/scripts/tokenize_bpe.py";
  return std::system((python() + " " + script + " " + arguments).c_str()) == 0;
}

std::vector<std::int32_t> all_tokens(const TokenCorpus& corpus) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(corpus.size()));
  corpus.read(0, tokens);
  return tokens;
}

struct Files {
  explicit Files(const test::Scratch& scratch)
      : encoder(scratch / "encoder.json"), merges(scratch / "vocab.bpe"), text(scratch / "text") {}
  std::string encoder;
  std::string merges;
  std::string text;
};

/// Both write a corpus of the text; they must be one and the same but for the bytes of HDF5.
void check_equal_corpora(const test::Scratch& scratch, const Files& files,
                         const std::string& engine) {
  const std::string from_python = scratch / (engine + ".h5");
  const std::string from_hew = scratch / (engine + "-hew.h5");
  REQUIRE(run_script("--engine " + engine + " --encoder " + files.encoder + " --merges " +
                     files.merges + " " + files.text + " -o " + from_python));
  PrepareOptions options;
  options.inputs = {files.text};
  options.output = from_hew;
  options.tokenizer.kind = "gpt2";
  options.tokenizer.encoder_json = files.encoder;
  options.tokenizer.vocab_bpe = files.merges;
  prepare_corpus(options);
  const TokenCorpus a = TokenCorpus::open({from_python});
  const TokenCorpus b = TokenCorpus::open({from_hew});
  CHECK(all_tokens(a) == all_tokens(b));
  CHECK(a.info().vocab_size == b.info().vocab_size);
  CHECK(a.info().largest_token == b.info().largest_token);
  CHECK(a.info().bytes == b.info().bytes);
  CHECK(a.info().documents == b.info().documents);
  CHECK(a.info().tokenizer_sha256 == b.info().tokenizer_sha256);
  CHECK(a.tokenizer()->decode(all_tokens(a)) == b.tokenizer()->decode(all_tokens(b)));
}

}  // namespace

TEST_CASE("tokenize_bpe.py writes the corpus that hew writes") {
  if (!python_has("h5py, tokenizers"))
    return;
  const test::Scratch scratch;
  const Files files(scratch);
  test::write_small_gpt2(files.encoder, files.merges);
  test::write_bytes(files.text, test::sample_lines(40, 1) + "<|endoftext|>\n" +
                                    test::unicode_sample() + "\r\n<|endoftext|>\n\n");
  check_equal_corpora(scratch, files, "tokenizers");
}

TEST_CASE("tokenize_bpe.py takes a tokenizer.json that splits as GPT-2, and no other") {
  if (!python_has("h5py, tokenizers"))
    return;
  const test::Scratch scratch;
  const Files files(scratch);
  test::write_small_gpt2(files.encoder, files.merges);
  test::write_bytes(files.text, "the other and then\n");
  const BpeVocabulary vocabulary = read_gpt2_vocabulary(files.encoder, files.merges);
  const auto write_json = [&](const std::string& split) {
    test::write_bytes(
        scratch / "tokenizer.json",
        fmt::format(R"({{"model": {{"type": "BPE", "vocab": {}, "merges": ["t h", ["th", "e"]]}},
                        "pre_tokenizer": {{"type": "{}", "add_prefix_space": false}}}})",
                    test::read_bytes(files.encoder), split));
    const auto path = [&](const char* name) { return (scratch / name).string(); };
    return run_script("--tokenizer-json " + path("tokenizer.json") + " " + files.text + " -o " +
                      path("a.h5") + " 2>/dev/null");
  };
  CHECK_FALSE(write_json("Whitespace"));
  REQUIRE(write_json("ByteLevel"));
  const TokenCorpus corpus = TokenCorpus::open({scratch / "a.h5"});
  BpeVocabulary two_merges = vocabulary;
  two_merges.merges = {vocabulary.merges[0], vocabulary.merges[1]};
  CHECK(corpus.info().tokenizer_sha256 == BpeTokenizer(two_merges).sha256());
  CHECK(corpus.tokenizer()->decode(all_tokens(corpus)) == "the other and then\n<|endoftext|>");
}

TEST_CASE("tokenize_bpe.py leaves nothing behind when it fails") {
  if (!python_has("h5py, tokenizers"))
    return;
  const test::Scratch scratch;
  const Files files(scratch);
  test::write_small_gpt2(files.encoder, files.merges);
  test::write_bytes(files.text, "fine\nnot \xff fine\n");
  const auto before = scratch.list();
  CHECK_FALSE(run_script("--encoder " + files.encoder + " --merges " + files.merges + " " +
                         files.text + " -o " + (scratch / "a.h5").string() + " 2>/dev/null"));
  CHECK(scratch.list() == before);
}

TEST_CASE("GPT-2's own vocabulary on real text") {
  const auto encoder = test::shared_text("gpt2-tokenizer/encoder.json.xz");
  const auto merges = test::shared_text("gpt2-tokenizer/vocab.bpe.xz");
  const auto text = test::shared_text("wiki2015_valid.txt.xz");
  if (!encoder || !merges || !text) {
    MESSAGE("SKIPPED: no shared data (HEW_SHARED_DATA)");
    return;
  }
  const test::Scratch scratch;
  const Files files(scratch);
  test::write_bytes(files.encoder, *encoder);
  test::write_bytes(files.merges, *merges);
  const std::size_t end = text->find('\n', 1'000'000) + 1;
  test::write_bytes(files.text, text->substr(0, end) + test::unicode_sample());
  const BpeTokenizer tokenizer(read_gpt2_vocabulary(files.encoder, files.merges));
  // As tiktoken has it.
  CHECK(tokenizer.encode("Hello, world!\n\nI'm  fine") ==
        std::vector<std::int32_t>{15496, 11, 995, 0, 198, 198, 40, 1101, 220, 3734});
  CHECK(tokenizer.end_of_text() == 50256);
  for (const std::string engine : {"tokenizers", "tiktoken"}) {
    if (python_has("h5py, " + engine))
      check_equal_corpora(scratch, files, engine);
  }
}

}  // namespace hew
