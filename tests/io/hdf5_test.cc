#include "io/hdf5.h"

#include <doctest/doctest.h>

#include <thread>

#include "core/error.h"
#include "tests/io/child.h"
#include "tests/io/counting.h"
#include "tests/io/scratch.h"
#include "tests/support/compare.h"

namespace hew {
namespace {

using test::counting;
using test::data_error_of;
using test::on_small_disk;
using test::Scratch;

template <class T>
void write_sizes(H5Writer& writer, const Stream& cpu) {
  const std::string group(name_of(kDTypeOf<T>));
  writer.write(group + "/one", Tensor::from(counting<T>(1), {}, cpu));
  writer.write(group + "/odd", Tensor::from(counting<T>(15), {5, 3}, cpu));
  writer.write(group + "/prime", counting<T>(1009));
  writer.write(group + "/none", Tensor::from(counting<T>(0), {0, 4}, cpu));
}

template <class T>
void check_sizes(const H5Reader& reader, const Stream& cpu) {
  const std::string group(name_of(kDTypeOf<T>));
  CAPTURE(group);
  CHECK(reader.list(group) == std::vector<std::string>{"none", "odd", "one", "prime"});
  CHECK(reader.dtype(group + "/one") == kDTypeOf<T>);
  const auto same = [&](const char* name, std::int64_t size, const Shape& shape) {
    return test::same_bytes(reader.read(group + name, cpu),
                            Tensor::from(counting<T>(size), shape, cpu));
  };
  CHECK(same("/one", 1, {}));
  CHECK(same("/odd", 15, {5, 3}));
  CHECK(same("/prime", 1009, {1009}));
  CHECK(reader.shape(group + "/none") == Shape{0, 4});
  CHECK(reader.read(group + "/none", cpu).numel() == 0);
}

// A file with something of each kind in it.
void write_sample(const std::filesystem::path& path) {
  H5Writer writer(path, "test", 2);
  writer.attribute("/", "note", "a note");
  writer.write("weights/w", counting<float>(3000));
  writer.write("weights/v", counting<double>(7));
  for (int i = 0; i < 5; ++i) {
    writer.append("tokens", std::span<const std::uint16_t>(counting<std::uint16_t>(30011)));
  }
  for (int i = 0; i < 20; ++i) writer.attribute(fmt::format("group{}", i), "i", std::int64_t{i});
  writer.commit();
}

}  // namespace

TEST_CASE("every dtype comes back with its shape and its bits") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  {
    H5Writer writer(scratch / "a.h5", "test", 1);
    write_sizes<float>(writer, cpu);
    write_sizes<double>(writer, cpu);
    write_sizes<BFloat16>(writer, cpu);
    write_sizes<std::int32_t>(writer, cpu);
    write_sizes<std::int64_t>(writer, cpu);
    write_sizes<std::uint16_t>(writer, cpu);
    write_sizes<std::uint8_t>(writer, cpu);
    writer.commit();
  }
  const H5Reader reader(scratch / "a.h5", "test", 1);
  check_sizes<float>(reader, cpu);
  check_sizes<double>(reader, cpu);
  check_sizes<BFloat16>(reader, cpu);
  check_sizes<std::int32_t>(reader, cpu);
  check_sizes<std::int64_t>(reader, cpu);
  check_sizes<std::uint16_t>(reader, cpu);
  check_sizes<std::uint8_t>(reader, cpu);
  CHECK(reader.list("/").size() == 7);
  CHECK(scratch.list() == std::vector<std::string>{"a.h5"});
}

TEST_CASE("attributes of every type come back, and only as what they are") {
  const Scratch scratch;
  const std::string long_text(200000, 'x');
  {
    H5Writer writer(scratch / "a.h5", "test", 1);
    writer.write("group/w", counting<float>(3));
    writer.attribute("group", "text", "naïve");
    writer.attribute("group/w", "whole", -7);
    writer.attribute("/", "real", 0.1);
    writer.attribute("new/group", "flag", true);
    writer.attribute("/", "long", long_text);
    writer.attribute("/", "empty", "");
    writer.attribute("group/w", "whole", std::int64_t{1} << 62);  // replaces
    writer.commit();
  }
  const H5Reader reader(scratch / "a.h5", "test", 1);
  CHECK(reader.attribute_string("group", "text") == "naïve");
  CHECK(reader.attribute_int("group/w", "whole") == std::int64_t{1} << 62);
  CHECK(reader.attribute_double("/", "real") == 0.1);
  CHECK(reader.attribute_bool("new/group", "flag"));
  CHECK(reader.attribute_string("/", "long") == long_text);
  CHECK(reader.attribute_string("/", "empty").empty());
  CHECK(reader.has_attribute("group", "text"));
  CHECK(!reader.has_attribute("group", "whole"));
  CHECK_THROWS_AS(reader.attribute_int("group", "text"), DataError);
  CHECK_THROWS_AS(reader.attribute_bool("group/w", "whole"), DataError);
  CHECK_THROWS_AS(reader.attribute_double("group", "missing"), DataError);
  CHECK_THROWS_AS(reader.attribute_double("missing", "real"), DataError);
}

TEST_CASE("an appended dataset reads as one, whole and in parts") {
  const Scratch scratch;
  constexpr std::int64_t kSize = 200003;  // three chunks and a bit
  const auto all = counting<std::int32_t>(kSize);
  {
    H5Writer writer(scratch / "a.h5", "corpus", 1);
    std::span<const std::int32_t> rest(all);
    for (std::size_t step = 1; !rest.empty(); step = step * 3 + 1) {
      const std::size_t count = std::min(step, rest.size());
      writer.append("tokens", rest.first(count));
      rest = rest.subspan(count);
    }
    writer.append("none", std::span<const std::uint16_t>());
    CHECK_THROWS_AS(writer.append("tokens", std::span<const std::uint16_t>()), DataError);
    writer.commit();
  }
  const H5Reader reader(scratch / "a.h5", "corpus", 1);
  CHECK(reader.read_vector<std::int32_t>("tokens") == all);
  CHECK(reader.shape("none") == Shape{0});
  for (const std::int64_t begin : {0L, 1L, 65535L, 65536L, 131000L, kSize - 1, kSize}) {
    std::vector<std::int32_t> part(static_cast<std::size_t>(std::min(kSize - begin, 70001L)));
    reader.read_range("tokens", begin, std::span(part));
    CHECK(std::equal(part.begin(), part.end(), all.begin() + begin));
  }
  std::vector<std::int32_t> two(2);
  CHECK_THROWS_AS(reader.read_range("tokens", kSize - 1, std::span(two)), DataError);
  CHECK_THROWS_AS(reader.read_range("tokens", -1, std::span(two)), DataError);
  CHECK_THROWS_AS(reader.read_vector<std::uint16_t>("tokens"), DataError);
}

TEST_CASE("errors name the file and the dataset") {
  const Scratch scratch;
  write_sample(scratch / "a.h5");
  const std::string file = (scratch / "a.h5").string();
  const H5Reader reader(file, "test", 2);
  CHECK(reader.version() == 2);
  CHECK(reader.exists("weights"));
  CHECK(reader.exists("weights/w"));
  CHECK(!reader.exists("weights/x"));
  CHECK(!reader.exists("missing/x"));
  CHECK(reader.is_dataset("weights/w"));
  CHECK(!reader.is_dataset("weights"));
  CHECK(data_error_of([&] { reader.shape("missing/x"); }) ==
        file + ": there is no dataset 'missing/x'");
  CHECK(data_error_of([&] { reader.list("missing"); }) == file + ": there is no 'missing'");
  CHECK(data_error_of([&] { reader.read_vector<float>("weights/v"); }) ==
        file + ": dataset 'weights/v' is float64, expected float32");
  CHECK(data_error_of([&] { reader.shape("weights"); }).starts_with(file + ": dataset 'weights'"));
  H5Writer writer(scratch / "b.h5", "test", 1);
  writer.write("x", counting<float>(2));
  CHECK(data_error_of([&] {
          writer.write("x", counting<float>(2));
        }).starts_with((scratch / "b.h5").string() + ": cannot make dataset 'x': "));
}

TEST_CASE("a file that is cut while it is open is no file of zeros") {
  const Scratch scratch;
  const auto path = scratch / "cut.h5";
  write_sample(path);
  const H5Reader reader(path);
  CHECK(reader.read_vector<std::uint16_t>("tokens").size() == 5 * 30011);
  const auto size = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, size / 2);
  const std::string why =
      fmt::format("{}: truncated, {} of {} bytes are there", path.string(), size / 2, size);
  CHECK(data_error_of([&] { reader.read_vector<std::uint16_t>("tokens"); }) == why);
  std::vector<std::uint16_t> part(3);
  CHECK(data_error_of([&] { reader.read_range("tokens", 90000, std::span(part)); }) == why);
}

TEST_CASE("equal content gives equal bytes") {
  const Scratch scratch;
  write_sample(scratch / "a.h5");
  write_sample(scratch / "b.h5");
  CHECK(test::read_bytes(scratch / "a.h5") == test::read_bytes(scratch / "b.h5"));
}

TEST_CASE("without commit nothing remains and the older file stays") {
  const Scratch scratch;
  test::write_bytes(scratch / "a.h5", "older");
  {
    H5Writer writer(scratch / "a.h5", "test", 1);
    writer.write("x", counting<float>(100000));
    CHECK(scratch.list().size() == 2);
  }
  CHECK(scratch.list() == std::vector<std::string>{"a.h5"});
  CHECK(test::read_bytes(scratch / "a.h5") == "older");
}

TEST_CASE("a full disk is one clean error at whichever write it strikes") {
  const Scratch scratch;
  const std::filesystem::path path = scratch / "a.h5";
  write_sample(path);
  const std::string older = test::read_bytes(path);
  const auto size = std::ssize(older);
  REQUIRE(on_small_disk(size, [&] { write_sample(path); }).error.empty());
  std::vector<std::int64_t> limits{0, 1, 511, 512, 513, 1000, 2047, 2048, 2049, 4096, size - 1};
  for (int i = 1; i < 16; ++i) limits.push_back(size * i / 16);
  for (const std::int64_t limit : limits) {
    CAPTURE(limit);
    const test::ChildResult result = on_small_disk(limit, [&] { write_sample(path); });
    CHECK(result.exited_cleanly);
    CHECK(result.error == path.string() +
                              ": cannot write: File too large (the older file of this name is "
                              "untouched)");
    CHECK(scratch.list() == std::vector<std::string>{"a.h5"});
    CHECK(test::read_bytes(path) == older);
  }
}

TEST_CASE("a reader in one thread runs beside a writer in another") {
  const Scratch scratch;
  write_sample(scratch / "a.h5");
  const H5Reader reader(scratch / "a.h5", "test", 2);
  const auto tokens = reader.read_vector<std::uint16_t>("tokens");
  bool equal = true;
  std::thread prefetch([&] {
    std::vector<std::uint16_t> part(257);
    for (std::int64_t i = 0; i < 300; ++i) {
      const std::int64_t begin = i * 401;
      reader.read_range("tokens", begin, std::span(part));
      equal = equal && std::equal(part.begin(), part.end(), tokens.begin() + begin);
    }
  });
  for (int i = 0; i < 5; ++i) write_sample(scratch / "b.h5");
  prefetch.join();
  CHECK(equal);
  CHECK(test::read_bytes(scratch / "a.h5") == test::read_bytes(scratch / "b.h5"));
}

}  // namespace hew
