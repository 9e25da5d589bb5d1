#include "core/dtype.h"

#include <array>

#include "core/error.h"

namespace hew {
namespace {

struct Entry {
  DType dtype;
  std::string_view name;
  std::string_view alias;
  std::int64_t size;
};

constexpr std::array<Entry, 7> kTable{{{DType::kFloat32, "float32", "fp32", 4},
                                       {DType::kFloat64, "float64", "fp64", 8},
                                       {DType::kBFloat16, "bfloat16", "bf16", 2},
                                       {DType::kInt32, "int32", "int32", 4},
                                       {DType::kInt64, "int64", "int64", 8},
                                       {DType::kUInt16, "uint16", "uint16", 2},
                                       {DType::kUInt8, "uint8", "uint8", 1}}};

const Entry& entry(DType dtype) {
  return kTable[static_cast<std::size_t>(dtype)];
}

}  // namespace

std::int64_t size_of(DType dtype) {
  return entry(dtype).size;
}

std::string_view name_of(DType dtype) {
  return entry(dtype).name;
}

DType parse_dtype(std::string_view name) {
  for (const Entry& e : kTable) {
    if (e.name == name || e.alias == name)
      return e.dtype;
  }
  throw ConfigError(fmt::format("[dtype] '{}' is not a dtype (fp32, fp64, bf16, …)", name));
}

bool is_floating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kBFloat16;
}

DType accumulator_of(DType dtype) {
  return dtype == DType::kBFloat16 ? DType::kFloat32 : dtype;
}

}  // namespace hew
