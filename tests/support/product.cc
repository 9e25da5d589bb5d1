#include "tests/support/product.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/support/device.h"

namespace hew::test {
namespace {

Tensor transposed(const Tensor& a) {
  const std::int64_t rows = a.size(0);
  const std::int64_t cols = a.size(1);
  Tensor t = Tensor::empty({cols, rows}, a.dtype(), a.stream());
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) {
      t.data<double>()[j * rows + i] = a.data<double>()[i * cols + j];
    }
  }
  return t;
}

}  // namespace

double ReferenceProduct::tolerance(DType dtype) const {
  const double epsilon = dtype == DType::kFloat64 ? std::numeric_limits<double>::epsilon()
                                                  : std::numeric_limits<float>::epsilon();
  return static_cast<double>(depth + 4) * epsilon / 2 * (magnitude + 1);
}

ReferenceProduct reference_product(const Tensor& a, Transpose transpose_a, const Tensor& b,
                                   Transpose transpose_b) {
  const Tensor wide_a = widen(a);
  const Tensor wide_b = widen(b);
  const Tensor left = transpose_a == Transpose::kYes ? transposed(wide_a) : wide_a;
  const Tensor right = transpose_b == Transpose::kYes ? wide_b : transposed(wide_b);
  const std::int64_t rows = left.size(0);
  const std::int64_t cols = right.size(0);
  const std::int64_t depth = left.size(1);
  require<ShapeError>(right.size(1) == depth, "[reference_product] depths {} and {}", depth,
                      right.size(1));
  ReferenceProduct product{.value = Tensor::empty({rows, cols}, DType::kFloat64, left.stream()),
                           .depth = depth};
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) {
      const double* x = left.data<double>() + i * depth;
      const double* y = right.data<double>() + j * depth;
      double sum = 0;
      double magnitude = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += x[k] * y[k];
        magnitude += std::abs(x[k] * y[k]);
      }
      product.value.data<double>()[i * cols + j] = sum;
      product.magnitude = std::max(product.magnitude, magnitude);
    }
  }
  return product;
}

Tensor widen(const Tensor& a) {
  return rounded(a.device().is_cpu() ? a : on_cpu(a), DType::kFloat64);
}

}  // namespace hew::test
