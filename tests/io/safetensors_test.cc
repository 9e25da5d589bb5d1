#include "io/safetensors.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/io/child.h"
#include "tests/io/counting.h"
#include "tests/io/scratch.h"
#include "tests/support/compare.h"

namespace hew {
namespace {

using test::counting;
using test::data_error_of;
using test::Scratch;

using Named = std::pair<std::string, Tensor>;

void write_file(const std::filesystem::path& path, const std::vector<Named>& tensors,
                const SafetensorsMetadata& metadata = {}) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors)
    specs.push_back({name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(path, specs, metadata);
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor);
  writer.commit();
}

template <class T>
void add_sizes(std::vector<Named>& tensors, const Stream& cpu) {
  const std::string dtype(name_of(kDTypeOf<T>));
  tensors.emplace_back(dtype + ".one", Tensor::from(counting<T>(1), {}, cpu));
  tensors.emplace_back(dtype + ".odd", Tensor::from(counting<T>(15), {5, 3}, cpu));
  tensors.emplace_back(dtype + ".prime", Tensor::from(counting<T>(1009), {1009}, cpu));
  tensors.emplace_back(dtype + ".none", Tensor::from(counting<T>(0), {2, 0}, cpu));
}

std::string file_bytes(const std::string& header, const std::string& data) {
  std::string bytes;
  for (unsigned i = 0; i < 8; ++i) bytes += static_cast<char>((header.size() >> (8 * i)) & 0xffU);
  return bytes + header + data;
}

// The error of opening a file with these bytes, without the file's name in front.
std::string error_of(const Scratch& scratch, const std::string& bytes) {
  const std::filesystem::path path = scratch / "bad.safetensors";
  test::write_bytes(path, bytes);
  const std::string text = data_error_of([&] { SafetensorsReader reader(path); });
  if (text.empty())
    return text;
  CHECK(text.starts_with(path.string() + ": "));
  return text.substr(path.string().size() + 2);
}

std::string error_of_header(const Scratch& scratch, const std::string& header) {
  return error_of(scratch, file_bytes(header, std::string(16, 'x')));
}

}  // namespace

TEST_CASE("every dtype comes back with its shape and its bits, aligned") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  std::vector<Named> tensors;
  add_sizes<float>(tensors, cpu);
  add_sizes<double>(tensors, cpu);
  add_sizes<BFloat16>(tensors, cpu);
  add_sizes<std::int32_t>(tensors, cpu);
  add_sizes<std::int64_t>(tensors, cpu);
  add_sizes<std::uint16_t>(tensors, cpu);
  add_sizes<std::uint8_t>(tensors, cpu);
  const SafetensorsMetadata metadata{{"format", "pt"}, {"quote", "\"naïve\"\n"}};
  write_file(scratch / "a.safetensors", tensors, metadata);
  const SafetensorsReader reader(scratch / "a.safetensors");
  CHECK(reader.metadata() == metadata);
  CHECK(reader.names().size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    CAPTURE(name);
    CHECK(reader.exists(name));
    CHECK(reader.dtype(name) == tensor.dtype());
    CHECK(test::same_bytes(reader.read(name, cpu), tensor));
  }
  const std::string bytes = test::read_bytes(scratch / "a.safetensors");
  CHECK(bytes[8] == '{');
  CHECK(static_cast<unsigned char>(bytes[0]) % 8 == 0);
  CHECK(scratch.list() == std::vector<std::string>{"a.safetensors"});
}

TEST_CASE("float16 is widened exactly, and truth values are bytes") {
  const Scratch scratch;
  // 1, −2, the largest, the smallest normal and subnormal, −0, ∞, and a NaN.
  const std::vector<std::uint16_t> halves{0x3c00, 0xc000, 0x7bff, 0x0400,
                                          0x0001, 0x8000, 0x7c00, 0x7e00};
  std::string data;
  for (const std::uint16_t half : halves) {
    data += static_cast<char>(half & 0xffU);
    data += static_cast<char>(half >> 8U);
  }
  test::write_bytes(scratch / "half.safetensors",
                    file_bytes(R"({"x":{"dtype":"F16","shape":[2,4],"data_offsets":[0,16]},)"
                               R"("y":{"dtype":"BOOL","shape":[2],"data_offsets":[16,18]}})",
                               data + std::string("\0\1", 2)));
  const SafetensorsReader reader(scratch / "half.safetensors");
  CHECK(reader.dtype("x") == DType::kFloat32);
  const Tensor x = reader.read("x", make_cpu_stream());
  CHECK(x.shape() == Shape{2, 4});
  const std::vector<float> values = x.to_vector<float>();
  const std::vector<float> expected{1, -2, 65504, 0x1p-14F, 0x1p-24F, -0.0F};
  CHECK(std::equal(expected.begin(), expected.end(), values.begin()));
  CHECK(std::signbit(values[5]));
  CHECK(values[6] == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(values[7]));
  CHECK(reader.read("y", make_cpu_stream()).to_vector<std::uint8_t>() ==
        std::vector<std::uint8_t>{0, 1});
  CHECK(error_of_header(scratch, R"({"x":{"dtype":"F16","shape":[4],"data_offsets":[0,16]}})") ==
        "tensor 'x' has 16 bytes, its shape [4] of float16 needs 8");
}

TEST_CASE("a file without tensors or metadata is one too") {
  const Scratch scratch;
  write_file(scratch / "a.safetensors", {});
  CHECK(SafetensorsReader(scratch / "a.safetensors").names().empty());
}

TEST_CASE("a truncated file is found at every length") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  write_file(scratch / "a.safetensors", {{"a", Tensor::from(counting<float>(7), {7}, cpu)},
                                         {"b", Tensor::from(counting<double>(3), {3}, cpu)}});
  const std::string bytes = test::read_bytes(scratch / "a.safetensors");
  CHECK(error_of(scratch, bytes).empty());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK(error_of(scratch, bytes.substr(0, length)).starts_with("truncated, "));
  }
  CHECK(error_of(scratch, bytes + "x") == "1 bytes after the last tensor");
  CHECK(data_error_of([] { SafetensorsReader reader("/nowhere/a"); }) ==
        "/nowhere/a: No such file or directory");
}

TEST_CASE("headers that lie are refused, with the tensor's name") {
  const Scratch scratch;
  const auto error = [&](const std::string& header) { return error_of_header(scratch, header); };
  CHECK(error(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})").empty());
  CHECK(error(R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}})") ==
        "tensor 'a' has 16 bytes, its shape [5] of float32 needs 20");
  CHECK(error(R"({"a":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]}})") ==
        "tensor 'a' has dtype \"F8_E4M3\", which hew does not read");
  CHECK(error(R"({"a":{"dtype":3,"shape":[8],"data_offsets":[0,16]}})") ==
        "tensor 'a' has dtype 3, which hew does not read");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},)"
              R"("b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}})") ==
        "tensor 'b' overlaps another");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
              R"("b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}})") ==
        "4 unused bytes before tensor 'b'");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})") ==
        "12 bytes after the last tensor");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[17],"data_offsets":[0,17]}})") ==
        "truncated, tensor 'a' ends at byte 17 of 16");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[16],"data_offsets":[16,0]}})") ==
        "tensor 'a' has data_offsets [16,0]");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[-16],"data_offsets":[0,16]}})") ==
        "tensor 'a' has shape [-16]");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,16]}})") ==
        "tensor 'a' has shape [1.5]");
  CHECK(error(R"({"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,16]}})")
            .starts_with("tensor 'a' of shape"));
  CHECK(error(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,16],"data_offsets":[0,16]}})") ==
        "tensor 'a' has rank 7, above 6");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[16]}})") ==
        "tensor 'a' does not have exactly dtype, shape and data_offsets");
  CHECK(error(R"({"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},)"
              R"("a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}})") ==
        "the header has 'a' twice");
  CHECK(error(R"({"__metadata__":{"x":1}})") == "__metadata__ 'x' is not a string");
  CHECK(error(R"({"a":)").starts_with("the header is not JSON: "));
  CHECK(error("[1, 2, 3]") == "not safetensors, the header is not an object");
  CHECK(error_of(scratch, std::string(100, '\xff')).starts_with("not safetensors, a header of"));
}

TEST_CASE("the writer refuses what was not declared, and files that lack a tensor") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  const Tensor two = Tensor::from(counting<float>(2), {2}, cpu);
  const std::vector<TensorSpec> specs{{"a", DType::kFloat32, {2}}};
  {
    SafetensorsWriter writer(scratch / "a", specs, {});
    CHECK_THROWS_AS(writer.write("b", two), DataError);
    CHECK_THROWS_AS(writer.write("a", two.reshape({1, 2})), DataError);
    CHECK_THROWS_AS(writer.write("a", Tensor::zeros({2}, DType::kInt32, cpu)), DataError);
    CHECK(data_error_of([&] { writer.commit(); }) ==
          (scratch / "a").string() + ": tensor 'a' was declared but not written");
    writer.write("a", two);
    CHECK_THROWS_AS(writer.write("a", two), DataError);
  }
  const std::vector<TensorSpec> twice{specs[0], specs[0]};
  CHECK_THROWS_AS(SafetensorsWriter(scratch / "a", twice, {}), DataError);
  CHECK_THROWS_AS(SafetensorsWriter(scratch / "a", specs, {{"x", "\xff"}}), DataError);
  CHECK(scratch.list().empty());
}

TEST_CASE("a full disk leaves the older file") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  const std::filesystem::path path = scratch / "a.safetensors";
  const auto write = [&] {
    write_file(path, {{"a", Tensor::from(counting<float>(1009), {1009}, cpu)}});
  };
  write();
  const std::string older = test::read_bytes(path);
  for (const std::int64_t limit : {0L, 7L, 50L, 100L, 3000L, std::ssize(older) - 1}) {
    CAPTURE(limit);
    const test::ChildResult result = test::on_small_disk(limit, write);
    CHECK(result.exited_cleanly);
    CHECK(result.error ==
          path.string() +
              ": cannot write: File too large (the older file of this name is untouched)");
    CHECK(test::read_bytes(path) == older);
    CHECK(scratch.list().size() == 1);
  }
}

}  // namespace hew
