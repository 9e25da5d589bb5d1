#include "io/atomic_file.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include "core/error.h"
#include "io/sha256.h"
#include "tests/io/child.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

using test::Scratch;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(bytes_of(text));
  file.commit();
}

}  // namespace

TEST_CASE("a file appears complete under its name, and replaces the older one") {
  const Scratch scratch;
  write_file(scratch / "a", "first");
  CHECK(test::read_bytes(scratch / "a") == "first");
  {
    AtomicFile file(scratch / "a");
    file.write(bytes_of("sec"));
    CHECK(test::read_bytes(scratch / "a") == "first");
    CHECK(file.temporary() == scratch / fmt::format("a.tmp.{}", ::getpid()));
    file.write(bytes_of("ond!"));
    file.write_at(0, bytes_of("S"));
    file.resize(6);
    std::string back(8, 'x');
    file.read_back(1, std::as_writable_bytes(std::span(back)));
    CHECK(back == std::string("econd\0\0\0", 8));
    file.commit();
  }
  CHECK(test::read_bytes(scratch / "a") == "Second");
  CHECK(scratch.list() == std::vector<std::string>{"a"});
}

TEST_CASE("an exception leaves the older file and no other") {
  const Scratch scratch;
  write_file(scratch / "a", "first");
  try {
    AtomicFile file(scratch / "a");
    file.write(bytes_of("half"));
    throw std::runtime_error("stop");
  } catch (const std::runtime_error&) {
  }
  CHECK(test::read_bytes(scratch / "a") == "first");
  CHECK(scratch.list() == std::vector<std::string>{"a"});
}

TEST_CASE("what a killed process left under the temporary name does no harm") {
  const Scratch scratch;
  test::write_bytes(scratch / fmt::format("a.tmp.{}", ::getpid()), std::string(1000, 'x'));
  write_file(scratch / "a", "short");
  CHECK(test::read_bytes(scratch / "a") == "short");
  CHECK(scratch.list() == std::vector<std::string>{"a"});
}

TEST_CASE("a full disk leaves nothing behind") {
  const Scratch scratch;
  const auto result =
      test::on_small_disk(10, [&] { write_file(scratch / "a", "more than ten bytes"); });
  CHECK(result.exited_cleanly);
  CHECK(result.error ==
        (scratch / "a").string() + ": cannot write: File too large (nothing is left behind)");
  CHECK(scratch.list().empty());
}

TEST_CASE("sha256 agrees with the standard's examples, whole and in parts") {
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const Scratch scratch;
  const std::string million(1000000, 'a');
  const std::string known = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  Sha256 digest;
  for (std::size_t i = 0; i < million.size(); i += 1000) {
    digest.update(bytes_of(million).subspan(i, 1000));
  }
  CHECK(digest.hex() == known);
  test::write_bytes(scratch / "a", "123" + million);
  CHECK(sha256_hex_of_file(scratch / "a", 3) == known);
  CHECK_THROWS_AS(sha256_hex_of_file(scratch / "missing"), DataError);
}

}  // namespace hew
