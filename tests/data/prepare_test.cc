#include "data/prepare.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "core/error.h"
#include "data/bpe_tokenizer.h"
#include "data/corpus_writer.h"
#include "data/token_corpus.h"
#include "tests/data/sample_text.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

/// The text of a corpus, `|` for end of text.
std::string text_of(const std::string& path) {
  const TokenCorpus corpus = TokenCorpus::open({path});
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(corpus.size()));
  corpus.read(0, tokens);
  std::string text = corpus.tokenizer()->decode(tokens);
  for (std::size_t at = 0; (at = text.find(kEndOfText, at)) != std::string::npos;) {
    text.erase(at, kEndOfText.size()).insert(at, 1, '|');
  }
  return text;
}

struct Job {
  Job() {
    options.inputs = {scratch / "in.txt"};
    options.output = scratch / "out.h5";
  }
  void write(const std::string& text, const std::string& name = "in.txt") const {
    test::write_bytes(scratch / name, text);
  }
  void hold_out(double fraction) {
    options.valid_fraction = fraction;
    options.valid_output = scratch / "valid.h5";
  }
  test::Scratch scratch;
  PrepareOptions options;
};

}  // namespace

TEST_CASE("documents end at separators, files or lines") {
  Job job;
  job.write("a\nb\n<|endoftext|>\n\n<|endoftext|>\nc <|endoftext|>\n<|endoftext|>\r\n");
  job.write("d", "more.txt");
  job.options.inputs.push_back(job.scratch / "more.txt");
  const PrepareResult result = prepare_corpus(job.options);
  CHECK(text_of(job.options.output) == "a\nb\n|\n|c |\n|d|");
  CHECK(result.train.documents == 4);
  CHECK(result.train.bytes == 4 + 1 + 16 + 1);
  CHECK_FALSE(result.valid);
  job.options.force = true;
  job.options.documents = Documents::kFile;
  prepare_corpus(job.options);
  CHECK(text_of(job.options.output) == "a\nb\n|\n\n|\nc |\n|\r\n|d|");
  job.write("a\n\nb");
  job.options.documents = Documents::kLine;
  prepare_corpus(job.options);
  CHECK(text_of(job.options.output) == "a|b|d|");
}

TEST_CASE("the held-out part is the tail, cut between documents where that fits") {
  Job job;
  job.write("aaaa\n<|endoftext|>\nbbbb\n<|endoftext|>\ncccc\n<|endoftext|>\ndddd\n");
  job.hold_out(0.1);
  prepare_corpus(job.options);
  CHECK(text_of(job.options.output) == "aaaa\n|bbbb\n|cccc\n|");
  CHECK(text_of(job.options.valid_output) == "dddd\n|");
  job.options.force = true;
  job.options.valid_fraction = 0.2;
  job.write("1\n2\n3\n4\n5\n6\n7\n8\n9\n0\n");
  prepare_corpus(job.options);
  CHECK(text_of(job.options.output) == "1\n2\n3\n4\n5\n6\n7\n8\n|");
  CHECK(text_of(job.options.valid_output) == "9\n0\n|");
  job.write("one line only\n");
  const std::string path = job.scratch / "in.txt";
  CHECK_THROWS_WITH_AS(
      prepare_corpus(job.options),
      (path +
       ": all text is fewer than two lines, 14 bytes; a held-out part begins where a line does")
          .c_str(),
      ConfigError);
}

TEST_CASE("a long document is encoded as if at once") {
  Job job;
  std::string wide;  // no ASCII in front of its spaces, then nothing but spaces
  for (int i = 0; i < 30000; ++i) wide += i % 3 == 0 ? "\u4f60\u3000 " : "\u597d\u3002\n";
  wide.append(100000, '\n');
  const std::string text = wide + test::sample_lines(4000, 5) + test::unicode_sample() + "\n" +
                           test::sample_lines(10, 6) + " =  Heading  = \n \n";
  REQUIRE(text.size() > 3 * 65536);
  job.write(text + text);
  test::write_small_gpt2(job.scratch / "encoder.json", job.scratch / "vocab.bpe");
  for (const std::string kind : {"gpt2", "sentencepiece"}) {
    CAPTURE(kind);
    job.options.force = true;
    job.options.tokenizer = {};
    job.options.tokenizer.kind = kind;
    if (kind == "gpt2") {
      job.options.tokenizer.encoder_json = job.scratch / "encoder.json";
      job.options.tokenizer.vocab_bpe = job.scratch / "vocab.bpe";
    } else {
      job.options.tokenizer.vocab_size = 400;
    }
    prepare_corpus(job.options);
    const TokenCorpus corpus = TokenCorpus::open({job.options.output});
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(corpus.size()));
    corpus.read(0, tokens);
    std::vector<std::int32_t> at_once = corpus.tokenizer()->encode(text + text);
    at_once.push_back(*corpus.tokenizer()->end_of_text());
    CHECK(tokens == at_once);
    CHECK(corpus.info().bytes == 2 * std::ssize(text));
  }
}

TEST_CASE("SentencePiece learns from the training part only, and its model can be kept") {
  Job job;
  job.write(test::sample_lines(300, 1) + "<|endoftext|>\n" + test::sample_lines(30, 2));
  job.hold_out(0.1);
  TokenizerChoice& choice = job.options.tokenizer;
  choice.kind = "sentencepiece";
  choice.vocab_size = 330;
  choice.save_model = job.scratch / "a.model";
  prepare_corpus(job.options);
  CHECK(text_of(job.options.valid_output) == test::sample_lines(30, 2) + "|");
  const std::string model = test::read_bytes(choice.save_model);
  CHECK(TokenCorpus::open({job.options.output}).info().tokenizer_blob == model);

  job.options.force = true;  // a model that had seen other text would differ
  job.write(test::sample_lines(300, 1) + "<|endoftext|>\n" +
            std::string(test::sample_lines(30, 2).size(), 'z') + "\n");
  prepare_corpus(job.options);
  CHECK(test::read_bytes(choice.save_model) == model);

  const std::string before = text_of(job.options.output);
  choice.sentencepiece_model = choice.save_model;
  choice.vocab_size = 0;
  choice.save_model.clear();
  prepare_corpus(job.options);
  CHECK(text_of(job.options.output) == before);
}

TEST_CASE("outputs are never overwritten unasked, and nothing is left of a failure") {
  Job job;
  job.write("some text\nand more\n");
  job.write("precious", "out.h5");
  const auto throws_and_leaves = [&](const std::string& part, const std::string& content) {
    const auto before = job.scratch.list();
    std::string text;
    try {
      prepare_corpus(job.options);
    } catch (const Error& error) {
      text = error.what();
    }
    CHECK_MESSAGE(text.find(part) != std::string::npos, text);
    CHECK(job.scratch.list() == before);
    CHECK(test::read_bytes(job.scratch / "out.h5") == content);
  };
  throws_and_leaves("out.h5: exists already; --force", "precious");
  job.options.force = true;
  job.options.inputs.push_back(job.scratch / "none.txt");
  throws_and_leaves("none.txt: No such file", "precious");
  job.options.inputs.pop_back();
  job.write("fine\nno\xffgood\n", "bad.txt");
  job.options.inputs.push_back(job.scratch / "bad.txt");
  job.options.tokenizer.kind = "sentencepiece";
  job.options.tokenizer.vocab_size = 270;
  throws_and_leaves("bad.txt:2: not UTF-8", "precious");
  job.options.inputs.pop_back();
  job.options.tokenizer = {};
  job.hold_out(0.3);
  job.options.valid_output = job.options.output;
  throws_and_leaves("out.h5: is the name of two outputs", "precious");
  job.options.valid_output = job.scratch / "none" / "valid.h5";
  throws_and_leaves("valid.h5: cannot write", "precious");
  job.write("");
  job.options.valid_output.clear();
  job.options.valid_fraction = 0;
  throws_and_leaves("out.h5: not written", "precious");
}

TEST_CASE("options that contradict each other are refused") {
  Job job;
  job.write("text\n");
  const auto refuses = [&](auto change) {
    PrepareOptions options = job.options;
    change(options);
    CHECK_THROWS_AS(prepare_corpus(options), ConfigError);
  };
  refuses([](PrepareOptions& o) { o.inputs.clear(); });
  refuses([](PrepareOptions& o) { o.valid_fraction = 0.1; });
  refuses([](PrepareOptions& o) { o.valid_output = "v.h5"; });
  refuses([](PrepareOptions& o) { o.valid_fraction = 1; });
  refuses([](PrepareOptions& o) { o.tokenizer.kind = "words"; });
  refuses([](PrepareOptions& o) { o.tokenizer.vocab_size = 300; });
  refuses([](PrepareOptions& o) { o.tokenizer.vocab_bpe = "vocab.bpe"; });
  refuses([](PrepareOptions& o) { o.tokenizer.kind = "gpt2"; });
  refuses([](PrepareOptions& o) { o.tokenizer.kind = "sentencepiece"; });
  CHECK(job.scratch.list() == std::vector<std::string>{"in.txt"});
}

TEST_CASE("UTF-8 is told from what is not") {
  for (const std::string good : {"", "a", "\u00e9", "\u4f60", "\U0001F600", "\U0010FFFF"}) {
    CHECK(is_utf8(good));
  }
  for (const std::string bad : {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xe4\xbd", "\x80",
                                "\xf4\x90\x80\x80", "\xe0\x80\x80", "a\xc3z"}) {
    CHECK_FALSE(is_utf8(bad));
  }
}

}  // namespace hew
