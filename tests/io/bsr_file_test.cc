#include "io/bsr_file.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "core/error.h"
#include "tests/io/scratch.h"
#include "tests/support/compare.h"

namespace hew {
namespace {

using test::data_error_of;
using test::Scratch;

// 19 x 13 in blocks of 8: 3 x 2 blocks, both edges ragged, the middle block row empty.
template <class T>
BsrRecord ragged(const std::string& name, const Stream& cpu) {
  BsrRecord record{.name = name,
                   .rows = 19,
                   .cols = 13,
                   .block = 8,
                   .crow_indices = {0, 2, 2, 3},
                   .col_indices = {0, 1, 1},
                   .values = {}};
  std::vector<T> values(3 * 64);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t row = (i / 64 == 2 ? 16 : 0) + i / 8 % 8;
    const std::size_t col = (i / 64 == 0 ? 0 : 8) + i % 8;
    if (row < 19 && col < 13)
      values[i] = T(static_cast<float>(i) + 1);
  }
  record.values = Tensor::from(values, {3, 8, 8}, cpu);
  return record;
}

BsrRecord empty_matrix(const Stream& cpu) {
  return {.name = "empty",
          .rows = 1,
          .cols = 7,
          .block = 8,
          .crow_indices = {0, 0},
          .col_indices = {},
          .values = Tensor::zeros({0, 8, 8}, DType::kFloat32, cpu)};
}

void check_same(const BsrRecord& a, const BsrRecord& b) {
  CHECK(a.name == b.name);
  CHECK(a.rows == b.rows);
  CHECK(a.cols == b.cols);
  CHECK(a.block == b.block);
  CHECK(a.crow_indices == b.crow_indices);
  CHECK(a.col_indices == b.col_indices);
  CHECK(test::same_bytes(a.values, b.values));
}

std::vector<BsrRecord> samples(const Stream& cpu) {
  return {ragged<float>("blocks.0.mlp.up.weight", cpu), ragged<double>("blocks.0.mlp", cpu),
          ragged<BFloat16>("head.weight", cpu), empty_matrix(cpu)};
}

const std::vector<std::string> kSorted{"blocks.0.mlp", "blocks.0.mlp.up.weight", "empty",
                                       "head.weight"};

void write_safetensors(const std::filesystem::path& path, const BsrRecord& record,
                       SafetensorsMetadata extra) {
  std::vector<TensorSpec> specs;
  SafetensorsMetadata metadata;
  declare_bsr(record, specs, metadata);
  extra.merge(metadata);
  SafetensorsWriter writer(path, specs, extra);
  write_bsr(writer, record);
  writer.commit();
}

}  // namespace

TEST_CASE("matrices come back from HDF5, beside dense tensors") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  const auto records = samples(cpu);
  {
    H5Writer writer(scratch / "a.h5", kBsrKind, kBsrVersion);
    for (const BsrRecord& record : records) write_bsr(writer, record);
    writer.write("dense.bias", std::vector<float>{1, 2, 3});
    writer.commit();
  }
  const H5Reader reader(scratch / "a.h5", kBsrKind, kBsrVersion);
  CHECK(list_bsr(reader) == kSorted);
  for (const BsrRecord& record : records) check_same(read_bsr(reader, record.name, cpu), record);
  CHECK(reader.dtype("head.weight/col_indices") == DType::kInt64);
  CHECK(data_error_of([&] { read_bsr(reader, "dense.bias", cpu); }) ==
        (scratch / "a.h5").string() + ": 'dense.bias' is not a block-sparse matrix");
}

TEST_CASE("matrices come back from safetensors, beside dense tensors") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  const auto records = samples(cpu);
  {
    std::vector<TensorSpec> specs{{"dense.bias", DType::kFloat32, {3}}};
    SafetensorsMetadata metadata;
    for (const BsrRecord& record : records) declare_bsr(record, specs, metadata);
    SafetensorsWriter writer(scratch / "a.safetensors", specs, metadata);
    for (const BsrRecord& record : records) write_bsr(writer, record);
    writer.write("dense.bias", Tensor::from(std::vector<float>{1, 2, 3}, {3}, cpu));
    writer.commit();
  }
  const SafetensorsReader reader(scratch / "a.safetensors");
  CHECK(list_bsr(reader) == kSorted);
  CHECK(reader.metadata().at("head.weight.shape") == "[19, 13]");
  for (const BsrRecord& record : records) check_same(read_bsr(reader, record.name, cpu), record);
  CHECK_THROWS_AS(read_bsr(reader, "dense.bias", cpu), DataError);
}

TEST_CASE("every invariant has a planted fault that is found and named") {
  const Stream cpu = make_cpu_stream();
  const auto error = [&](const std::function<void(BsrRecord&)>& plant) {
    BsrRecord record = ragged<float>("w", cpu);
    plant(record);
    const std::string text = data_error_of([&] { check_bsr(record, "a.h5"); });
    CHECK(text.starts_with("a.h5: matrix 'w': "));
    return text.substr(std::string("a.h5: matrix 'w': ").size());
  };
  using R = BsrRecord;
  CHECK(error([](R& r) { r.crow_indices[0] = 1; }) == "crow_indices[0] is 1, expected 0");
  CHECK(error([](R& r) { r.crow_indices[2] = 1; }) ==
        "crow_indices[2] is 1, below the 2 before it");
  CHECK(error([](R& r) { r.crow_indices[3] = 2; }) ==
        "crow_indices[3] is 2, expected the number of blocks, 3");
  CHECK(error([](R& r) { r.crow_indices[3] = 4; }) ==
        "crow_indices[3] is 4, expected the number of blocks, 3");
  CHECK(error([](R& r) { r.crow_indices.pop_back(); }) == "crow_indices has 3 entries, expected 4");
  CHECK(error([](R& r) { r.crow_indices.clear(); }) == "crow_indices has 0 entries, expected 4");
  CHECK(error([](R& r) { r.col_indices[2] = 2; }) == "col_indices[2] is 2, outside of 0 to 1");
  CHECK(error([](R& r) { r.col_indices[0] = -1; }) == "col_indices[0] is -1, outside of 0 to 1");
  CHECK(error([](R& r) { r.col_indices[1] = 0; }) ==
        "col_indices[1] is 0, not above the 0 before it in block row 0");
  CHECK(error([](R& r) { std::swap(r.col_indices[0], r.col_indices[1]); }) ==
        "col_indices[1] is 0, not above the 1 before it in block row 0");
  CHECK(error([](R& r) { r.col_indices.push_back(1); }) ==
        "values has shape [3, 8, 8], expected [4, 8, 8]");
  CHECK(error([&](R& r) {
          r.values = Tensor::zeros({3, 8, 8}, DType::kInt32, cpu);
        }) == "values is int32, expected a floating type");
  CHECK(error([](R& r) { r.block = 0; }) == "19 rows, 13 columns and block 0 are not all positive");
  CHECK(error([](R& r) { r.rows = 16; }) == "crow_indices has 4 entries, expected 3");
  const auto padding = [](std::size_t i, float value) {
    return [=](R& r) { r.values.data<float>()[i] = value; };
  };
  constexpr std::size_t kRightEdge = 64 + 7 * 8 + 5;  // block 1: column 8 + 5 of 13
  constexpr std::size_t kLowerEdge = 128 + 3 * 8;     // block 2: row 16 + 3 of 19
  CHECK(error(padding(kRightEdge, 2)) ==
        "values[1, 7, 5] is 2, but lies outside of the matrix and must be 0");
  CHECK(error(padding(kLowerEdge, 1e-30F)).starts_with("values[2, 3, 0] is 1.0"));
  CHECK(error(padding(191, NAN)) ==
        "values[2, 7, 7] is nan, but lies outside of the matrix and must be 0");
  BsrRecord sound = ragged<float>("w", cpu);
  padding(kRightEdge - 1, 2)(sound);  // the last real column
  CHECK_NOTHROW(check_bsr(sound, "a.h5"));
}

TEST_CASE("faults in files are found on load, with file, matrix and place") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  const std::filesystem::path path = scratch / "a";
  const BsrRecord record = ragged<float>("w", cpu);
  const auto error = [&](const SafetensorsMetadata& extra) {
    write_safetensors(path, record, extra);
    const SafetensorsReader reader(path);
    const std::string text = data_error_of([&] { read_bsr(reader, "w", cpu); });
    return text.empty() ? text : text.substr(path.string().size() + 2);
  };
  CHECK(error({}).empty());
  CHECK(error({{"w.shape", "[19]"}}) == "metadata 'w.shape' is '[19]', expected 2 integer(s)");
  CHECK(error({{"w.shape", "[19, 99999999999999999999]"}})
            .starts_with("metadata 'w.shape' is '[19, 9"));
  CHECK(error({{"w.shape", "[40, 13]"}}) == "matrix 'w': crow_indices has 4 entries, expected 6");
  CHECK(error({{"w.block", "4"}}) == "matrix 'w': crow_indices has 4 entries, expected 6");
  CHECK(error({{"hew.bsr.version", "2"}}) ==
        "written by a newer hew (bsr version 2, this one reads up to 1)");
  {
    H5Writer writer(scratch / "b.h5", kBsrKind, kBsrVersion);
    writer.attribute("w", "format", "bsr");
    for (const char* name : {"rows", "cols", "block"}) writer.attribute("w", name, 8);
    writer.write("w/crow_indices", std::vector<std::int64_t>{0, std::int64_t{1} << 40});
    writer.write("w/col_indices", std::vector<std::int64_t>{0});
    writer.write("w/values", Tensor::zeros({1, 8, 8}, DType::kFloat32, cpu));
    writer.commit();
  }
  const H5Reader reader(scratch / "b.h5", kBsrKind, kBsrVersion);
  CHECK(data_error_of([&] { read_bsr(reader, "w", cpu); }) ==
        (scratch / "b.h5").string() +
            ": matrix 'w': crow_indices[1] is 1099511627776, not a 32-bit index");
}

TEST_CASE("an unsound matrix is not written") {
  const Scratch scratch;
  const Stream cpu = make_cpu_stream();
  BsrRecord record = ragged<float>("w", cpu);
  record.col_indices[1] = 0;
  H5Writer writer(scratch / "a.h5", kBsrKind, kBsrVersion);
  CHECK_THROWS_AS(write_bsr(writer, record), DataError);
  CHECK_THROWS_AS(write_safetensors(scratch / "a", record, {}), DataError);
}

}  // namespace hew
