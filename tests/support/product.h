#pragma once

#include "core/tensor.h"

namespace hew::test {

/// A matrix product by the plain triple loop in float64.
struct ReferenceProduct {
  Tensor value;          // float64
  double magnitude = 0;  // the largest Σ_k |a[i, k]·b[k, j]|
  std::int64_t depth = 0;

  /// Bound on |computed − value| for any order of summation in dtype: depth·(epsilon/2)·magnitude,
  /// with room for a bias and one rounding of the inputs.
  double tolerance(DType dtype) const;
};

enum class Transpose { kNo, kYes };

/// op(a)·op(b), on the host; a and b are float32 or float64 matrices on any device.
ReferenceProduct reference_product(const Tensor& a, Transpose transpose_a, const Tensor& b,
                                   Transpose transpose_b);

/// a in float64, on the host.
Tensor widen(const Tensor& a);

}  // namespace hew::test
