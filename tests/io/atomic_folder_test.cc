#include "io/atomic_folder.h"

#include <doctest/doctest.h>

#include "tests/io/scratch.h"

namespace hew::test {

TEST_CASE("a folder appears whole, replaces an older one, and is gone without commit") {
  const Scratch scratch;
  {
    AtomicFolder folder(scratch / "model");
    write_bytes(folder.temporary() / "a", "1");
    CHECK(!std::filesystem::exists(scratch / "model"));
    folder.commit();
  }
  CHECK(read_bytes(scratch / "model" / "a") == "1");
  {
    AtomicFolder folder(scratch / "model");
    write_bytes(folder.temporary() / "b", "2");
  }
  CHECK(read_bytes(scratch / "model" / "a") == "1");
  AtomicFolder folder((scratch / "model").string() + "/");
  write_bytes(folder.temporary() / "b", "2");
  folder.commit();
  CHECK(!std::filesystem::exists(scratch / "model" / "a"));
  CHECK(read_bytes(scratch / "model" / "b") == "2");
  CHECK(scratch.list() == std::vector<std::string>{"model"});
}

TEST_CASE("a folder that cannot be made is an error that names it") {
  const Scratch scratch;
  const std::string path = (scratch / "missing" / "model").string();
  CHECK(data_error_of([&] { const AtomicFolder folder(path); }) ==
        path + ": cannot write: No such file or directory");
}

}  // namespace hew::test
