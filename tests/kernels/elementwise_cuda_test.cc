#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};

}  // namespace

TEST_CASE("elementwise kernels on a GPU agree with the CPU's in float64") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Shape& shape : {Shape{1}, Shape{7, 13}, Shape{64, 256}, Shape{1009, 31}}) {
      CAPTURE(to_string(shape));
      CAPTURE(name_of(dtype));
      const test::GpuInput a = test::gpu_input(shape, dtype, 1);
      const test::GpuInput b = test::gpu_input(shape, dtype, 2);
      const test::GpuInput tail = test::gpu_input({shape[-1]}, dtype, 3);
      Tensor y = test::poisoned(shape, dtype, gpu);
      Tensor wanted = Tensor::empty(shape, DType::kFloat64, cpu);
      const double tolerance = test::unit_roundoff(dtype);
      kernels::add(a.gpu, b.gpu, y, gpu);
      kernels::add(a.wide, b.wide, wanted, cpu);
      HEW_CHECK_CLOSE(y, wanted, tolerance);
      kernels::multiply(a.gpu, b.gpu, y, gpu);
      kernels::multiply(a.wide, b.wide, wanted, cpu);
      HEW_CHECK_CLOSE(y, wanted, tolerance);
      kernels::add_broadcast(a.gpu, tail.gpu, y, gpu);
      kernels::add_broadcast(a.wide, tail.wide, wanted, cpu);
      HEW_CHECK_CLOSE(y, wanted, tolerance);
      kernels::scale(0.375, y, gpu);
      kernels::scale(0.375, wanted, cpu);
      HEW_CHECK_CLOSE(y, wanted, 2 * tolerance);
      kernels::fill(1.5, y, gpu);
      kernels::fill(1.5, wanted, cpu);
      HEW_CHECK_CLOSE(y, wanted, 0);
    }
  }
}

TEST_CASE("sums and casts on a GPU") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Shape& whole : {Shape{1, 1}, Shape{3, 5}, Shape{257, 64}, Shape{40013, 72}}) {
      const Shape shape{test::cut(whole[0], 701), whole[1]};
      CAPTURE(to_string(shape));
      CAPTURE(name_of(dtype));
      const test::GpuInput x = test::gpu_input(shape, dtype, 1);
      Tensor sums = test::poisoned({shape[1]}, accumulator_of(dtype), gpu);
      Tensor wanted = Tensor::empty({shape[1]}, DType::kFloat64, cpu);
      kernels::sum_leading(x.gpu, sums, gpu);
      kernels::sum_leading(x.wide, wanted, cpu);
      // n values of about 1 each: n roundings of a sum of about √n, in the accumulator.
      const auto n = static_cast<double>(shape[0]);
      HEW_CHECK_CLOSE(sums, wanted, 0, test::epsilon(accumulator_of(dtype)) * n * 2);
      const double squares = kernels::sum_of_squares(x.gpu, gpu);
      const double right = kernels::sum_of_squares(x.wide, cpu);
      CHECK(std::abs(squares - right) <= 1e-12 * right);
      for (const DType other : kTypes) {
        Tensor y = test::poisoned(shape, other, gpu);
        kernels::cast(x.gpu, y, gpu);
        CHECK(test::same_bytes(y, test::rounded(test::on_cpu(x.gpu), other)));
      }
    }
  }
}

// Added up by one kernel or two, over whole and broken chunks of rows and blocks of columns.
TEST_CASE("sums over rows on a GPU, of every way to cut them") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Shape& shape : {Shape{64, 8}, Shape{65, 264}, Shape{129, 7}, Shape{1031, 1601},
                               Shape{8192, 1600}, Shape{8193, 136}, Shape{9000, 1032}}) {
      if (test::small_sizes() && shape.numel() > 2'000'000)
        continue;
      CAPTURE(to_string(shape));
      CAPTURE(name_of(dtype));
      const test::GpuInput x = test::gpu_input(shape, dtype, 1);
      Tensor sums = test::poisoned({shape[1]}, accumulator_of(dtype), gpu);
      Tensor again = test::poisoned({shape[1]}, accumulator_of(dtype), gpu);
      Tensor wanted = Tensor::empty({shape[1]}, DType::kFloat64, cpu);
      kernels::sum_leading(x.gpu, sums, gpu);
      kernels::sum_leading(x.gpu, again, gpu);
      kernels::sum_leading(x.wide, wanted, cpu);
      // As above.
      const auto n = static_cast<double>(shape[0]);
      HEW_CHECK_CLOSE(sums, wanted, 0, test::epsilon(accumulator_of(dtype)) * n * 2);
      CHECK(test::same_bytes(test::on_cpu(sums), test::on_cpu(again)));
    }
  }
}

}  // namespace hew
