#include "io/seal.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "core/error.h"
#include "io/hdf5.h"
#include "io/sha256.h"
#include "tests/io/child.h"
#include "tests/io/counting.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

using test::data_error_of;
using test::Scratch;

std::string sealed_bytes(const Scratch& scratch) {
  H5Writer writer(scratch / "original.h5", "test", 3);
  writer.write("x", test::counting<float>(777));
  writer.commit();
  return test::read_bytes(scratch / "original.h5");
}

// The error of opening a file with these bytes, without the file's name in front.
std::string error_of(const Scratch& scratch, const std::string& bytes, int max_version = 3,
                     const std::string& kind = "test") {
  const std::filesystem::path path = scratch / "damaged.h5";
  test::write_bytes(path, bytes);
  const std::string text = data_error_of([&] { H5Reader(path, kind, max_version); });
  if (text.empty())
    return text;
  CHECK(text.starts_with(path.string() + ": "));
  CHECK(text.find('\n') == std::string::npos);
  return text.substr(path.string().size() + 2);
}

std::string with_header(const std::string& bytes, std::string_view header) {
  std::string changed = bytes;
  changed.replace(0, 512, std::string(512, '\0'));
  changed.replace(0, header.size(), header);
  return changed;
}

}  // namespace

TEST_CASE("the seal holds the length and the hash of what follows it") {
  const Scratch scratch;
  const std::string bytes = sealed_bytes(scratch);
  const std::string header = bytes.substr(0, bytes.find('\0'));
  CHECK(header == fmt::format("hew-h5 1\nsha256 {}\nlength {}\n", sha256_hex(bytes.substr(512)),
                              bytes.size()));
  CHECK(bytes.substr(512, 4) == "\x89HDF");
  CHECK(error_of(scratch, bytes).empty());
}

TEST_CASE("a truncated file is called truncated at every length") {
  const Scratch scratch;
  const std::string bytes = sealed_bytes(scratch);
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{90}, std::size_t{511},
        std::size_t{512}, std::size_t{513}, bytes.size() / 2, bytes.size() - 1}) {
    CAPTURE(length);
    CHECK(error_of(scratch, bytes.substr(0, length)).starts_with("truncated, "));
  }
  CHECK(error_of(scratch, bytes + "x").starts_with("damaged, "));
}

TEST_CASE("one flipped bit is found wherever it is") {
  const Scratch scratch;
  const std::string bytes = sealed_bytes(scratch);
  std::vector<std::size_t> places{bytes.size() / 2, bytes.size() - 1};
  for (std::size_t i = 0; i < 520; i += 3) places.push_back(i);  // header, padding, superblock
  for (const std::size_t place : places) {
    for (const int bit : {0, 5, 7}) {
      std::string changed = bytes;
      changed[place] = static_cast<char>(static_cast<unsigned char>(changed[place]) ^ (1U << bit));
      CAPTURE(place);
      CAPTURE(bit);
      CHECK(!error_of(scratch, changed).empty());
    }
  }
  std::string changed = bytes;
  changed[bytes.size() / 2] = static_cast<char>(changed[bytes.size() / 2] ^ 1);
  CHECK(error_of(scratch, changed) == "damaged, its content does not match its SHA-256");
}

TEST_CASE("other kinds of file and newer versions are told apart") {
  const Scratch scratch;
  const std::string bytes = sealed_bytes(scratch);
  CHECK(error_of(scratch, bytes, 3, "corpus") == "holds 'test', expected 'corpus'");
  CHECK(error_of(scratch, bytes, 2) ==
        "written by a newer hew (test version 3, this one reads up to 2)");
  CHECK(error_of(scratch, bytes.substr(512)).starts_with("not a sealed hew file but plain HDF5"));
  CHECK(error_of(scratch, "some text that is no such file").starts_with("not a sealed hew file"));
  CHECK(error_of(scratch, std::string(5000, '\0')).starts_with("not a sealed hew file"));
  CHECK(error_of(scratch, with_header(bytes, "hew-h5 2\nanything")) ==
        "written by a newer hew (container version 2, this one reads up to 1)");
  for (const char* header :
       {"hew-h5 ", "hew-h5 1", "hew-h5 1\n", "hew-h5 x\n", "hew-h5 1\nsha256 12\n",
        "hew-h5 1\nsha256 12\nlength -\n", "hew-h5 1\nsha256 12\nlength 99999999999999999999\n",
        "hew-h5 1\nlength 1\nsha256 12\n"}) {
    CAPTURE(header);
    CHECK(error_of(scratch, with_header(bytes, header)) == "damaged, the header is not readable");
  }
}

TEST_CASE("a file that cannot be opened or made says why") {
  const Scratch scratch;
  const auto open = [](const std::filesystem::path& path) {
    return data_error_of([&] { H5Reader(path, "test", 1); });
  };
  const auto make = [](const std::filesystem::path& path) {
    return data_error_of([&] { H5Writer(path, "test", 1); });
  };
  CHECK(open("/nowhere/a.h5") == "/nowhere/a.h5: No such file or directory");
  CHECK(open(scratch.path()) == scratch.path().string() + ": Is a directory");
  CHECK(make("/nowhere/a.h5") ==
        "/nowhere/a.h5: cannot write: No such file or directory (nothing is left behind)");
  CHECK(make(scratch.path()) == scratch.path().string() + ": cannot write: a folder has this name");
  const std::filesystem::path locked = scratch / "locked";
  std::filesystem::create_directory(locked);
  test::write_bytes(locked / "old.h5", "old");
  ::chmod(scratch.path().c_str(), 0755);
  ::chmod(locked.c_str(), 0555);
  const test::ChildResult result =
      test::without_rights([&] { H5Writer(locked / "old.h5", "test", 1); });
  CHECK(result.exited_cleanly);
  CHECK(result.error == (locked / "old.h5").string() +
                            ": cannot write: Permission denied (the older file of this name is "
                            "untouched)");
}

}  // namespace hew
