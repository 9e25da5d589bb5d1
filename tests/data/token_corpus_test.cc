#include "data/token_corpus.h"

#include <doctest/doctest.h>

#include <numeric>

#include "core/error.h"
#include "data/corpus_writer.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// An llm.c file of these tokens.
template <class T>
std::string llmc(std::int32_t magic, std::int32_t version, const std::vector<T>& tokens) {
  std::vector<std::int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = static_cast<std::int32_t>(tokens.size());
  return bytes_of(header) + bytes_of(tokens);
}

void write_text(const std::string& path, std::string_view text) {
  const ByteTokenizer bytes;
  CorpusWriter writer(path, bytes);
  writer.add_text(text);
  writer.commit();
}

std::vector<std::int32_t> read(const TokenCorpus& corpus, std::int64_t begin, std::int64_t count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  corpus.read(begin, tokens);
  return tokens;
}

/// The error of opening and reading all of a file; it names the file.
std::string error_of(const std::string& path, std::optional<std::int64_t> vocab_size = {}) {
  const std::string text = test::data_error_of([&] {
    const TokenCorpus corpus = TokenCorpus::open({path}, vocab_size);
    read(corpus, 0, corpus.size());
  });
  if (!text.empty())
    CHECK_MESSAGE(text.starts_with(path + ": "), text);
  CHECK(text.find('\n') == std::string::npos);
  return text;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a corpus keeps tokens, counts and tokenizer") {
  const test::Scratch scratch;
  const std::string path = scratch / "a.h5";
  {
    const ByteTokenizer bytes;
    CorpusWriter writer(path, bytes);
    writer.add_text("ab");
    writer.add_text("c\n");
    writer.end_document();
    writer.end_document();  // nothing is open
    writer.add_text("\xc3\xa9");
    writer.commit();
  }
  const TokenCorpus corpus = TokenCorpus::open({path}, 257);
  CHECK(read(corpus, 0, corpus.size()) ==
        std::vector<std::int32_t>{97, 98, 99, 10, 256, 0xc3, 0xa9, 256});
  CHECK(read(corpus, 3, 2) == std::vector<std::int32_t>{10, 256});
  CHECK(corpus.info().format == "hew-h5");
  CHECK(corpus.info().tokens == 8);
  CHECK(corpus.info().bytes == 6);
  CHECK(corpus.info().documents == 2);
  CHECK(corpus.info().vocab_size == 257);
  CHECK(corpus.info().largest_token == 256);
  CHECK(corpus.tokenizer()->kind() == "bytes");
  corpus.require_tokenizer(ByteTokenizer().sha256());
  const std::string other = test::data_error_of([&] { corpus.require_tokenizer("0123"); });
  CHECK(other.starts_with(path + ": made with tokenizer bytes 388c"));
  CHECK(test::data_error_of([&] { read(corpus, 7, 2); }).starts_with(path));
  CHECK(test::data_error_of([&] { read(corpus, -1, 2); }).starts_with(path));
}

TEST_CASE("large vocabularies are stored as int32") {
  class Wide final : public Tokenizer {
   public:
    std::string_view kind() const override { return "bytes"; }
    std::int64_t vocab_size() const override { return 70001; }
    std::optional<std::int32_t> end_of_text() const override { return 70000; }
    std::vector<std::int32_t> encode(std::string_view) const override { return {65536, 1}; }
    std::string_view piece(std::int32_t) const override { return {}; }
    std::string serialized() const override { return {}; }
  };
  const test::Scratch scratch;
  const Wide wide;
  CorpusWriter writer(scratch / "a.h5", wide);
  writer.add_text("x");
  writer.commit();
  const TokenCorpus corpus = TokenCorpus::open({scratch / "a.h5"});
  CHECK(read(corpus, 0, 3) == std::vector<std::int32_t>{65536, 1, 70000});
}

TEST_CASE("llm.c and nanoGPT files are read as they are") {
  const test::Scratch scratch;
  const std::vector<std::uint16_t> narrow = {1, 2, 50256, 3, 65535};
  const std::vector<std::uint32_t> wide = {1, 128000, 7};
  test::write_bytes(scratch / "gpt2.bin", llmc(20240520, 1, narrow));
  test::write_bytes(scratch / "llama.bin", llmc(20240801, 7, wide));
  test::write_bytes(scratch / "nano.bin", bytes_of(narrow));
  const auto open = [&](const std::string& name) { return TokenCorpus::open({scratch / name}); };
  CHECK(read(open("gpt2.bin"), 0, 5) == std::vector<std::int32_t>{1, 2, 50256, 3, 65535});
  CHECK(read(open("nano.bin"), 1, 3) == std::vector<std::int32_t>{2, 50256, 3});
  CHECK(read(open("llama.bin"), 0, 3) == std::vector<std::int32_t>{1, 128000, 7});
  CHECK(open("gpt2.bin").info().format == "llm.c");
  CHECK(open("nano.bin").info().format == "nanogpt");
  CHECK(open("nano.bin").tokenizer() == nullptr);
  CHECK_FALSE(open("nano.bin").info().bytes);
  open("nano.bin").require_tokenizer("anything");  // does not know, does not object
}

TEST_CASE("shards are one stream") {
  const test::Scratch scratch;
  write_text(scratch / "part-2.h5", "cd");
  write_text(scratch / "part-1.h5", "ab");
  write_text(scratch / "last.h5", "e");
  const TokenCorpus corpus = TokenCorpus::open({scratch / "part-*.h5", scratch / "last.h5"}, 257);
  CHECK(corpus.size() == 8);
  CHECK(read(corpus, 0, 8) == std::vector<std::int32_t>{97, 98, 256, 99, 100, 256, 101, 256});
  CHECK(read(corpus, 2, 5) == std::vector<std::int32_t>{256, 99, 100, 256, 101});
  CHECK(read(corpus, 3, 1) == std::vector<std::int32_t>{99});
  CHECK(corpus.info().bytes == 5);
  CHECK(corpus.info().documents == 3);
  test::write_bytes(scratch / "nano.bin", std::string(6, 'x'));
  CHECK(has(test::data_error_of([&] {
              TokenCorpus::open({scratch / "last.h5", scratch / "nano.bin"});
            }),
            "nano.bin: made with another tokenizer"));
}

TEST_CASE("a digest tells corpora apart, however they are cut into shards") {
  const test::Scratch scratch;
  const auto digest_of = [&](std::vector<std::string> texts) {
    std::vector<std::string> paths;
    for (const std::string& text : texts) {
      paths.push_back(scratch / (std::to_string(paths.size()) + ".h5"));
      std::filesystem::remove(paths.back());
      write_text(paths.back(), text);
    }
    return TokenCorpus::open(paths).digest();
  };
  const std::string long_text(5000, 'a');
  const std::string digest = digest_of({long_text, "b"});
  CHECK(digest.size() == 64);
  CHECK(digest_of({long_text, "b"}) == digest);
  CHECK(digest_of({long_text, "c"}) != digest);                  // in the last token
  CHECK(digest_of({"b" + long_text.substr(1), "b"}) != digest);  // in the first one
  CHECK(digest_of({long_text + "a", "b"}) != digest);
  CHECK(digest_of({"a"}) != digest_of({"a", "a"}));
}

TEST_CASE("files that are missing or damaged are named") {
  const test::Scratch scratch;
  const auto path = [&](const std::string& name) { return (scratch / name).string(); };
  const auto put = [&](const std::string& name, const std::string& bytes) {
    test::write_bytes(scratch / name, bytes);
    return path(name);
  };
  write_text(path("good.h5"), "some text");
  CHECK(error_of(path("good.h5")).empty());
  const std::string good = test::read_bytes(path("good.h5"));
  const std::string bin = llmc(20240520, 1, std::vector<std::uint16_t>{1, 2, 3});

  CHECK(has(error_of(path("none.h5")), "no such file"));
  CHECK(has(error_of(path("none-*.bin")), "no such file"));
  CHECK(has(error_of(put("empty.h5", "")), "empty"));
  CHECK(has(error_of(put("empty.bin", "")), "empty"));
  CHECK(has(error_of(put("cut.h5", good.substr(0, good.size() - 1))), "truncated"));
  CHECK(has(error_of(put("short.h5", good.substr(0, 9))), "truncated"));
  CHECK(has(error_of(put("text.h5", "In the beginning")), "not a sealed hew file"));
  CHECK(has(error_of(put("plain.h5", good.substr(512))), "not a sealed hew file"));
  std::string flipped = good;
  flipped[good.size() / 2] = static_cast<char>(flipped[good.size() / 2] ^ 4);
  CHECK(has(error_of(put("flipped.h5", flipped)), "damaged"));
  CHECK(has(error_of(put("cut.bin", bin.substr(0, bin.size() - 2))), "truncated"));
  CHECK(has(error_of(put("header.bin", bin.substr(0, 100))), "truncated"));
  CHECK(has(error_of(put("long.bin", bin + "xx")), "its header asks for"));
  CHECK(has(error_of(put("version.bin", llmc(20240520, 9, std::vector<std::uint16_t>{1}))),
            "version 9, expected 1"));
  CHECK(
      has(error_of(put("zero.bin", llmc(20240520, 1, std::vector<std::uint16_t>{}))), "0 tokens"));
  CHECK(has(error_of(put("odd.bin", "abc")), "3 bytes"));
  CHECK(has(error_of(scratch.path().string()), "directory"));
  {
    H5Writer checkpoint(path("checkpoint.h5"), "checkpoint", 1);
    checkpoint.commit();
  }
  CHECK(has(error_of(path("checkpoint.h5")), "holds 'checkpoint', expected 'corpus'"));
}

TEST_CASE("a file that is cut while it is read is no file of zeros") {
  const test::Scratch scratch;
  const std::string path = scratch / "cut.h5";
  write_text(path, std::string(100000, 'a'));
  const TokenCorpus corpus = TokenCorpus::open({path});
  CHECK(read(corpus, 90000, 1).front() == 'a');
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  CHECK(has(test::data_error_of([&] { read(corpus, 90000, 1); }), path + ": truncated, "));
}

TEST_CASE("a token outside the vocabulary is named with its position") {
  const test::Scratch scratch;
  const std::string sealed = scratch / "a.h5";
  const std::string bin = scratch / "a.bin";
  write_text(sealed, "ab");  // 97 98 256
  test::write_bytes(bin, bytes_of(std::vector<std::uint16_t>{5, 6, 900, 7}));
  CHECK(error_of(sealed, 257).empty());
  CHECK(has(error_of(sealed, 256), "token 256 at position 2 is outside the vocabulary of 256"));
  CHECK_THROWS_AS(TokenCorpus::open({sealed}, 98), DataError);  // on opening already
  CHECK(has(error_of(bin, 900), "token 900 at position 2 is outside the vocabulary of 900"));
  CHECK(error_of(bin, 901).empty());
  const TokenCorpus corpus = TokenCorpus::open({bin}, 800);  // a window at a time
  CHECK(read(corpus, 0, 2) == std::vector<std::int32_t>{5, 6});
  CHECK_THROWS_AS(read(corpus, 1, 2), DataError);
  test::write_bytes(bin, llmc(20240801, 7, std::vector<std::uint32_t>{1, 0xffffffffU}));
  CHECK(has(error_of(bin), "token 4294967295 at position 1"));
}

TEST_CASE("a corpus without text is not written") {
  const test::Scratch scratch;
  const ByteTokenizer bytes;
  {
    CorpusWriter writer(scratch / "a.h5", bytes);
    CHECK(has(test::data_error_of([&] { writer.commit(); }), "a.h5: not written"));
  }
  { CorpusWriter abandoned(scratch / "b.h5", bytes); }
  CHECK(scratch.list().empty());
}

}  // namespace hew
