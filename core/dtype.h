#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace hew {

enum class DType : std::uint8_t { kFloat32, kFloat64, kBFloat16, kInt32, kInt64, kUInt16, kUInt8 };

/// Bytes of one element.
std::int64_t size_of(DType dtype);
/// "float32", "float64", "bfloat16", "int32", "int64", "uint16", "uint8".
std::string_view name_of(DType dtype);
/// Inverse of name_of; also takes fp32, fp64 and bf16. Throws ConfigError.
DType parse_dtype(std::string_view name);
bool is_floating(DType dtype);
/// What sums over values of this dtype are kept in: float32 for bfloat16, else the dtype itself.
DType accumulator_of(DType dtype);

/// The upper half of a float32, rounded to nearest even. Storage: arithmetic widens it first.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    bits = std::isnan(value)
               ? std::uint16_t{0x7fc0}
               : static_cast<std::uint16_t>((word + 0x7fffU + ((word >> 16U) & 1U)) >> 16U);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
  }
};

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType kValue = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType kValue = DType::kFloat64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType kValue = DType::kBFloat16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType kValue = DType::kInt32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType kValue = DType::kInt64;
};
template <>
struct DTypeOf<std::uint16_t> {
  static constexpr DType kValue = DType::kUInt16;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType kValue = DType::kUInt8;
};

template <class T>
inline constexpr DType kDTypeOf = DTypeOf<T>::kValue;

/// accumulator_of for types.
template <class T>
struct AccumulatorOf {
  using Type = T;
};
template <>
struct AccumulatorOf<BFloat16> {
  using Type = float;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::Type;

}  // namespace hew
