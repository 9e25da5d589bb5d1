#include "kernels/norm.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

constexpr double kEps = 1e-5;

Tensor random(const Shape& shape, std::uint64_t seed) {
  return test::random_tensor(shape, DType::kFloat64, test::test_stream(), seed);
}

Tensor empty(const Shape& shape) {
  return Tensor::empty(shape, DType::kFloat64, test::test_stream());
}

Tensor sum_of(const Tensor& a, const Tensor& b) {
  Tensor y = empty(a.shape());
  kernels::add(a, b, y, a.stream());
  return y;
}

}  // namespace

TEST_CASE("a norm of x + residual stores the sum and is the norm of it") {
  const Stream& stream = test::test_stream();
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 7}, Shape{131, 96}}) {
    CAPTURE(to_string(shape));
    const std::int64_t rows = shape[0];
    const Tensor x = random(shape, 1);
    const Tensor residual = random(shape, 2);
    const Tensor w = random({shape[1]}, 3);
    const Tensor b = random({shape[1]}, 4);
    const Tensor wanted_sum = sum_of(x, residual);
    Tensor sum = empty(shape);
    Tensor y = empty(shape);
    Tensor wanted = empty(shape);
    Tensor mean = empty({rows});
    Tensor rstd = empty({rows});
    kernels::layer_norm_forward({.x = wanted_sum,
                                 .weight = w,
                                 .bias = b,
                                 .eps = kEps,
                                 .y = wanted,
                                 .mean = mean,
                                 .rstd = rstd},
                                stream);
    kernels::layer_norm_forward({.x = x,
                                 .residual = residual,
                                 .weight = w,
                                 .bias = b,
                                 .eps = kEps,
                                 .sum = sum,
                                 .y = y,
                                 .mean = mean,
                                 .rstd = rstd},
                                stream);
    CHECK(test::same_bytes(sum, wanted_sum));
    HEW_CHECK_CLOSE(y, wanted, 1e-12, 1e-12);
    // In place: the sum over x, the norm over the residual.
    Tensor x_and_sum = x.clone();
    Tensor residual_and_y = residual.clone();
    kernels::rms_norm_forward(
        {.x = wanted_sum, .weight = w, .eps = kEps, .y = wanted, .rstd = rstd}, stream);
    kernels::rms_norm_forward({.x = x_and_sum,
                               .residual = residual_and_y,
                               .weight = w,
                               .eps = kEps,
                               .sum = x_and_sum,
                               .y = residual_and_y,
                               .rstd = rstd},
                              stream);
    CHECK(test::same_bytes(x_and_sum, wanted_sum));
    HEW_CHECK_CLOSE(residual_and_y, wanted, 1e-12, 1e-12);
  }
}

TEST_CASE("the gradient past a norm is added to the norm's") {
  const Stream& stream = test::test_stream();
  const Shape shape{67, 24};
  const Tensor x = random(shape, 1);
  const Tensor dy = random(shape, 2);
  const Tensor dsum = random(shape, 3);
  const Tensor w = random({24}, 4);
  const Tensor mean = random({67}, 5);
  const Tensor rstd = random({67}, 6);
  Tensor dx = empty(shape);
  kernels::layer_norm_backward({.x = x,
                                .weight = w,
                                .mean = mean,
                                .rstd = rstd,
                                .dy = dy,
                                .dx = dx,
                                .dweight = {},
                                .dbias = {}},
                               stream);
  Tensor both = dsum.clone();
  kernels::layer_norm_backward({.x = x,
                                .weight = w,
                                .mean = mean,
                                .rstd = rstd,
                                .dy = dy,
                                .dsum = both,
                                .dx = both,
                                .dweight = {},
                                .dbias = {}},
                               stream);
  HEW_CHECK_CLOSE(both, sum_of(dx, dsum), 1e-12, 1e-12);
  kernels::rms_norm_backward({.x = x, .weight = w, .rstd = rstd, .dy = dy, .dx = dx, .dweight = {}},
                             stream);
  both = dy.clone();
  kernels::rms_norm_backward(
      {.x = x, .weight = w, .rstd = rstd, .dy = both, .dsum = dsum, .dx = both, .dweight = {}},
      stream);
  HEW_CHECK_CLOSE(both, sum_of(dx, dsum), 1e-12, 1e-12);
}

TEST_CASE("a norm refuses a residual without a sum, and what does not fit") {
  const Stream& stream = test::test_stream();
  const Tensor x = random({4, 8}, 1);
  const Tensor w = random({8}, 2);
  Tensor y = empty({4, 8});
  Tensor rstd = empty({4});
  CHECK_THROWS_WITH_AS(
      kernels::rms_norm_forward({.x = x, .residual = x, .weight = w, .y = y, .rstd = rstd}, stream),
      "[rms_norm] residual is given, sum is empty, expected both or neither", ShapeError);
  const Tensor short_one = random({3, 8}, 3);
  CHECK_THROWS_AS(
      kernels::rms_norm_backward(
          {.x = x, .weight = w, .rstd = rstd, .dy = x, .dsum = short_one, .dx = y, .dweight = {}},
          stream),
      ShapeError);
}

}  // namespace hew
