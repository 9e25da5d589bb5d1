#pragma once

#include <string>

#include "core/tensor.h"

namespace hew::test {

/// The distance from 1 to the next number of a floating dtype.
double epsilon(DType dtype);
/// The most that rounding to nearest changes a number, relative to it: epsilon / 2.
double unit_roundoff(DType dtype);

/// Element-by-element comparison. `ok` holds only if every |a − b| ≤ absolute + relative·|b|; a NaN
/// or an infinity on either side fails. The text has the count, the worst index and both values.
struct Comparison {
  bool ok = false;
  std::string text;
};

Comparison compare(const Tensor& a, const Tensor& b, double relative, double absolute = 0);

/// The largest magnitude in a floating tensor; 0 of none.
double largest(const Tensor& x);

/// True if both have the same shape, dtype and bytes.
bool same_bytes(const Tensor& a, const Tensor& b);

/// CHECK(close(a, b, …)) with a message that says where they differ.
#define HEW_CHECK_CLOSE(a, b, ...)                                           \
  do {                                                                       \
    const auto hew_comparison = ::hew::test::compare((a), (b), __VA_ARGS__); \
    CHECK_MESSAGE(hew_comparison.ok, hew_comparison.text);                   \
  } while (false)

}  // namespace hew::test
