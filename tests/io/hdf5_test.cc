#include "io/hdf5.h"

#include <doctest/doctest.h>

#include <numeric>

#include "core/error.h"
#include "tests/io/scratch.h"
#include "tests/support/compare.h"

namespace hew {
namespace {

using test::Scratch;

template <class T>
std::vector<T> counting(std::int64_t size) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < size; ++i) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      values.emplace_back(static_cast<float>(i));
    } else {
      values.push_back(static_cast<T>(i * 3 - 1));
    }
  }
  return values;
}

template <class T>
void write_three(H5Writer& writer, const Stream& cpu) {
  const std::string group(name_of(kDTypeOf<T>));
  writer.write(group + "/one", Tensor::from(counting<T>(1), {}, cpu));
  writer.write(group + "/odd", Tensor::from(counting<T>(15), {5, 3}, cpu));
  writer.write(group + "/prime", Tensor::from(counting<T>(1009), {1009}, cpu));
  writer.write(group + "/none", Tensor::from(counting<T>(0), {0, 4}, cpu));
}

template <class T>
void check_three(const H5Reader& reader, const Stream& cpu) {
  const std::string group(name_of(kDTypeOf<T>));
  CAPTURE(group);
  CHECK(reader.list(group) == std::vector<std::string>{"none", "odd", "one", "prime"});
  CHECK(reader.dtype(group + "/one") == kDTypeOf<T>);
  CHECK(test::same_bytes(reader.read(group + "/one", cpu), Tensor::from(counting<T>(1), {}, cpu)));
  CHECK(test::same_bytes(reader.read(group + "/odd", cpu),
                         Tensor::from(counting<T>(15), {5, 3}, cpu)));
  CHECK(test::same_bytes(reader.read(group + "/prime", cpu),
                         Tensor::from(counting<T>(1009), {1009}, cpu)));
  CHECK(reader.shape(group + "/none") == Shape{0, 4});
  CHECK(reader.read(group + "/none", cpu).numel() == 0);
}

}  // namespace

TEST_CASE("every dtype comes back with its shape and its bits") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  {
    H5Writer writer(scratch / "a.h5", "test", 1);
    write_three<float>(writer, cpu);
    write_three<double>(writer, cpu);
    write_three<BFloat16>(writer, cpu);
    write_three<std::int32_t>(writer, cpu);
    write_three<std::int64_t>(writer, cpu);
    write_three<std::uint16_t>(writer, cpu);
    write_three<std::uint8_t>(writer, cpu);
    writer.commit();
  }
  const H5Reader reader(scratch / "a.h5", "test", 1);
  check_three<float>(reader, cpu);
  check_three<double>(reader, cpu);
  check_three<BFloat16>(reader, cpu);
  check_three<std::int32_t>(reader, cpu);
  check_three<std::int64_t>(reader, cpu);
  check_three<std::uint16_t>(reader, cpu);
  check_three<std::uint8_t>(reader, cpu);
}

}  // namespace hew
