// io_sample_files write FOLDER: bsr.h5 and bsr.safetensors for tests/python/test_load_bsr.py
// io_sample_files read FILE: name, dtype, shape and SHA-256 of each tensor of a safetensors file

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/bsr_file.h"
#include "io/sha256.h"

namespace hew {
namespace {

// W[n, k] = (n·K + k) mod 251 − 125.5, which even bfloat16 holds exactly; block (r, c) is live
// unless r = 1 or (r·C + c) mod 3 = 1.
template <class T>
BsrRecord make_record(const std::string& name, const Shape& shape, std::int64_t block,
                      const Stream& cpu) {
  BsrRecord record{.name = name,
                   .rows = shape[0],
                   .cols = shape[1],
                   .block = block,
                   .crow_indices = {0},
                   .col_indices = {},
                   .values = {}};
  const std::int64_t rows = (record.rows + block - 1) / block;
  const std::int64_t cols = (record.cols + block - 1) / block;
  std::vector<T> values;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      if (r == 1 || (r * cols + c) % 3 == 1)
        continue;
      record.col_indices.push_back(static_cast<std::int32_t>(c));
      for (std::int64_t i = 0; i < block * block; ++i) {
        const std::int64_t n = r * block + i / block;
        const std::int64_t k = c * block + i % block;
        const bool inside = n < record.rows && k < record.cols;
        const auto value = static_cast<float>((n * record.cols + k) % 251) - 125.5F;
        values.push_back(T(inside ? value : 0.0F));
      }
    }
    record.crow_indices.push_back(static_cast<std::int32_t>(record.col_indices.size()));
  }
  record.values = Tensor::from(values, {std::ssize(record.col_indices), block, block}, cpu);
  return record;
}

void write_samples(const std::filesystem::path& folder) {
  const Stream cpu = make_cpu_stream();
  const std::vector<BsrRecord> records{
      make_record<float>("blocks.0.mlp.up.weight", {19, 13}, 8, cpu),
      make_record<BFloat16>("head.weight", {48, 32}, 16, cpu),
      make_record<double>("one", {1, 1}, 8, cpu), make_record<float>("row.empty", {17, 8}, 8, cpu)};
  const Tensor norm = Tensor::from(std::vector<float>{1, 2, 3}, {3}, cpu);
  const Tensor bias = Tensor::from(std::vector<BFloat16>{BFloat16(0.5F), BFloat16(-2)}, {2}, cpu);
  H5Writer h5(folder / "bsr.h5", kBsrKind, kBsrVersion);
  std::vector<TensorSpec> specs{{"norm.weight", norm.dtype(), norm.shape()},
                                {"head.bias", bias.dtype(), bias.shape()}};
  SafetensorsMetadata metadata;
  for (const BsrRecord& record : records) declare_bsr(record, specs, metadata);
  SafetensorsWriter safetensors(folder / "bsr.safetensors", specs, metadata);
  for (const BsrRecord& record : records) {
    write_bsr(h5, record);
    write_bsr(safetensors, record);
  }
  h5.write("norm.weight", norm);
  safetensors.write("norm.weight", norm);
  h5.write("head.bias", bias);
  safetensors.write("head.bias", bias);
  h5.attribute("norm.weight", "flag", true);
  h5.commit();
  safetensors.commit();
}

void print_tensors(const std::filesystem::path& path) {
  const Stream cpu = make_cpu_stream();
  const SafetensorsReader reader(path);
  for (const std::string& name : reader.names()) {
    const Tensor tensor = reader.read(name, cpu);
    const std::span bytes(static_cast<const std::byte*>(tensor.view().data),
                          static_cast<std::size_t>(tensor.nbytes()));
    fmt::print("{} {} {} {}\n", name, name_of(tensor.dtype()), to_string(tensor.shape()),
               sha256_hex(bytes));
  }
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 3) {
    fmt::print(stderr, "usage: {} write FOLDER | read FILE\n", arguments.at(0));
    return 2;
  }
  if (arguments[1] == "write")
    write_samples(arguments[2]);
  if (arguments[1] == "read")
    print_tensors(arguments[2]);
  return 0;
}

}  // namespace
}  // namespace hew

int main(int argc, char** argv) {
  try {
    return hew::run({argv, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
