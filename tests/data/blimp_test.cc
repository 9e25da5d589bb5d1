#include "data/blimp.h"

#include <doctest/doctest.h>

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "tests/io/scratch.h"

namespace hew::test {
namespace {

constexpr auto kPair = R"({"sentence_good": "He runs.", "sentence_bad": "He run.", "field": "x"})";

}  // namespace

TEST_CASE("a folder's files are phenomena, in order of their names") {
  const Scratch scratch;
  write_bytes(scratch / "b.jsonl", std::string(kPair) + "\n" + kPair + "\n" + kPair);
  write_bytes(scratch / "a.jsonl", std::string(kPair) + "\n");
  write_bytes(scratch / "README.md", "no pairs");
  const auto phenomena = read_blimp(scratch.path());
  REQUIRE(phenomena.size() == 2);
  CHECK(phenomena[0].name == "a");
  CHECK(phenomena[0].pairs.size() == 1);
  CHECK(phenomena[1].pairs.size() == 3);
  CHECK(phenomena[1].pairs[2].good == "He runs.");
  CHECK(phenomena[1].pairs[2].bad == "He run.");
  CHECK(read_blimp(scratch.path(), /*limit=*/2)[1].pairs.size() == 2);
  const auto one = read_blimp(scratch / "b.jsonl");
  REQUIRE(one.size() == 1);
  CHECK(one[0].name == "b");
}

TEST_CASE("a broken pair is an error that names file and line") {
  const Scratch scratch;
  const std::string path = scratch / "a.jsonl";
  const auto error = [&](const std::string& file) {
    return data_error_of([&] { read_blimp(file); });
  };
  CHECK(error(path).starts_with(path + ": "));
  CHECK(error(scratch.path()) == scratch.path().string() + ": a folder without .jsonl files");
  write_bytes(path, "\n");
  CHECK(error(scratch.path()) == path + ": holds no pair");
  write_bytes(path, std::string(kPair) + "\n{\"sentence_good\": \"He runs.\"}");
  CHECK(error(path) == path + ":2: has no text 'sentence_bad'");
  write_bytes(path, R"({"sentence_good": "", "sentence_bad": "x"})");
  CHECK(error(path) == path + ":1: an empty sentence");
  write_bytes(path, std::string(kPair).substr(0, 30));
  CHECK(error(path) == path + ":1: not a JSON object");
}

TEST_CASE("BLiMP whole") {
  const char* named = std::getenv("HEW_SHARED_DATA");
  const std::filesystem::path root =
      named != nullptr ? named : std::filesystem::path(HEW_SOURCE_DIR) / "../shared/data";
  const auto archive = root / "text/blimp/blimp_data.tar.xz";
  if (!std::filesystem::exists(archive)) {
    MESSAGE("skipped: no shared development texts");
    return;
  }
  const Scratch scratch;
  const std::string command =
      fmt::format("tar xJf '{}' -C '{}'", archive.string(), scratch.path().string());
  REQUIRE(std::system(command.c_str()) == 0);
  const auto phenomena = read_blimp(scratch.path());
  CHECK(phenomena.size() == 67);
  for (const Phenomenon& phenomenon : phenomena) CHECK(phenomenon.pairs.size() == 1000);
}

}  // namespace hew::test
