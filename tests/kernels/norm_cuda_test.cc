#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/norm.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};
constexpr double kEps = 1e-5;

struct Case {
  std::int64_t rows;
  std::int64_t width;
  bool misaligned = false;
};

// Widths on both sides of every change of kernel, and rows for several rounds of every block.
constexpr std::array kCases{Case{0, 16},
                            Case{1, 1},
                            Case{3, 7},
                            Case{5, 8},
                            Case{37, 64},
                            Case{6401, 8},
                            Case{130, 13},
                            Case{6401, 64},
                            Case{1, 768},
                            Case{2203, 768},
                            Case{33, 768, /*shifted=*/true},
                            Case{70, 1009},
                            Case{131, 1280},
                            Case{131, 1600},
                            Case{131, 2048},
                            Case{67, 2056},
                            Case{541, 4096},
                            Case{9, 4104},
                            Case{141, 8192},
                            Case{5, 8200},
                            Case{2, 16384},
                            Case{2, 40000}};

Case cut(const Case& c) {
  constexpr std::int64_t kElements = 52000;  // 6401 rows of 8 are several rounds of each block
  return {test::cut(c.rows, std::max<std::int64_t>(1, kElements / c.width)), c.width, c.misaligned};
}

std::string text(const Case& c, DType dtype) {
  return fmt::format("[{}, {}] {}{}", c.rows, c.width, name_of(dtype),
                     c.misaligned ? ", misaligned" : "");
}

// A sum of C terms, and twice the rounding of what is stored.
struct Tolerance {
  Tolerance(DType dtype, std::int64_t width)
      : sums(16 * std::sqrt(static_cast<double>(width)) * test::epsilon(accumulator_of(dtype))),
        stored(test::epsilon(dtype) + sums) {}
  double sums;
  double stored;
};

// One case's random values, for all calls.
struct Inputs {
  Inputs(const Case& c, DType type)
      : at(c),
        dtype(type),
        shape{c.rows, c.width},
        x(test::gpu_input(shape, type, 1, c.misaligned)),
        other(test::gpu_input(shape, type, 2)),
        dy(test::gpu_input(shape, type, 3)),
        weight(test::gpu_input({c.width}, type, 4)),
        bias(test::gpu_input({c.width}, type, 5)) {}
  Case at;
  DType dtype;
  Shape shape;
  test::GpuInput x;
  test::GpuInput other;  // residual forward, dsum backward
  test::GpuInput dy;
  test::GpuInput weight;
  test::GpuInput bias;
};

// One forward call; mean is not touched without `centred`.
struct ForwardArgs {
  ConstView x;
  ConstView residual = {};
  ConstView weight;
  ConstView bias = {};
  View sum = {};
  View y;
  View mean;
  View rstd;
};

void forward(bool centred, const ForwardArgs& a, const Stream& stream) {
  if (centred) {
    kernels::layer_norm_forward({.x = a.x,
                                 .residual = a.residual,
                                 .weight = a.weight,
                                 .bias = a.bias,
                                 .eps = kEps,
                                 .sum = a.sum,
                                 .y = a.y,
                                 .mean = a.mean,
                                 .rstd = a.rstd},
                                stream);
  } else {
    kernels::rms_norm_forward({.x = a.x,
                               .residual = a.residual,
                               .weight = a.weight,
                               .eps = kEps,
                               .sum = a.sum,
                               .y = a.y,
                               .rstd = a.rstd},
                              stream);
  }
}

struct BackwardArgs {
  ConstView x;
  ConstView weight;
  ConstView mean;
  ConstView rstd;
  ConstView dy;
  ConstView dsum = {};
  View dx;
  View dweight;
  View dbias;
};

void backward(bool centred, const BackwardArgs& a, const Stream& stream) {
  if (centred) {
    kernels::layer_norm_backward({.x = a.x,
                                  .weight = a.weight,
                                  .mean = a.mean,
                                  .rstd = a.rstd,
                                  .dy = a.dy,
                                  .dsum = a.dsum,
                                  .dx = a.dx,
                                  .dweight = a.dweight,
                                  .dbias = a.dbias},
                                 stream);
  } else {
    kernels::rms_norm_backward({.x = a.x,
                                .weight = a.weight,
                                .rstd = a.rstd,
                                .dy = a.dy,
                                .dsum = a.dsum,
                                .dx = a.dx,
                                .dweight = a.dweight},
                               stream);
  }
}

Tensor wide(const Shape& shape) {
  return Tensor::empty(shape, DType::kFloat64, make_cpu_stream());
}

void check_forward(const Inputs& inputs, bool centred, bool biased, bool residual) {
  const auto& [at, dtype, shape, x, added, dy, w, b] = inputs;
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const Tolerance tolerance(dtype, at.width);
  Tensor sum = test::poisoned(shape, dtype, gpu);
  Tensor y = test::poisoned(shape, dtype, gpu);
  Tensor mean = test::poisoned({at.rows}, accumulator_of(dtype), gpu);
  Tensor rstd = test::poisoned({at.rows}, accumulator_of(dtype), gpu);
  ForwardArgs on_gpu{.x = x.gpu, .weight = w.gpu, .y = y, .mean = mean, .rstd = rstd};
  if (residual) {
    on_gpu.residual = added.gpu.view();
    on_gpu.sum = sum;
  }
  if (biased)
    on_gpu.bias = b.gpu.view();
  forward(centred, on_gpu, gpu);

  Tensor normed = x.wide;
  if (residual) {
    Tensor wanted_sum = wide(shape);
    for (std::int64_t i = 0; i < wanted_sum.numel(); ++i) {
      wanted_sum.data<double>()[i] = x.wide.data<double>()[i] + added.wide.data<double>()[i];
    }
    HEW_CHECK_CLOSE(sum, wanted_sum, test::unit_roundoff(dtype) * 1.01);
    normed = test::rounded(test::on_cpu(sum), DType::kFloat64);  // the norm is of what was stored
  }
  Tensor wanted = wide(shape);
  Tensor wanted_mean = wide({at.rows});
  Tensor wanted_rstd = wide({at.rows});
  ForwardArgs on_cpu{
      .x = normed, .weight = w.wide, .y = wanted, .mean = wanted_mean, .rstd = wanted_rstd};
  if (biased)
    on_cpu.bias = b.wide.view();
  forward(centred, on_cpu, cpu);
  HEW_CHECK_CLOSE(y, wanted, tolerance.stored, tolerance.sums);
  HEW_CHECK_CLOSE(rstd, wanted_rstd, tolerance.sums);
  if (centred)
    HEW_CHECK_CLOSE(mean, wanted_mean, tolerance.sums, tolerance.sums);
}

enum class Place { kOwn, kOverDy, kOverDsum };

void check_backward(const Inputs& inputs, bool centred, bool past, bool sums, Place place) {
  const auto& [at, dtype, shape, x, dsum, dy, w, b] = inputs;
  const DType accumulator = accumulator_of(dtype);
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const Tolerance tolerance(dtype, at.width);
  Tensor exact_mean = wide({at.rows});
  Tensor exact_rstd = wide({at.rows});
  Tensor unused = wide(shape);
  forward(centred,
          {.x = x.wide,
           .weight = w.wide,
           .bias = {},
           .y = unused,
           .mean = exact_mean,
           .rstd = exact_rstd},
          cpu);
  const auto mean = test::gpu_input(
      centred ? exact_mean : Tensor::zeros({at.rows}, DType::kFloat64, cpu), accumulator);
  const auto rstd = test::gpu_input(exact_rstd, accumulator);

  Tensor dx = test::poisoned(shape, dtype, gpu);
  if (place != Place::kOwn)
    dx = (place == Place::kOverDy ? dy : dsum).gpu.clone();
  Tensor dweight = test::poisoned({at.width}, accumulator, gpu);
  Tensor dbias = test::poisoned({at.width}, accumulator, gpu);
  BackwardArgs on_gpu{.x = x.gpu,
                      .weight = w.gpu,
                      .mean = mean.gpu,
                      .rstd = rstd.gpu,
                      .dy = place == Place::kOverDy ? dx : dy.gpu,
                      .dx = dx,
                      .dweight = {},
                      .dbias = {}};
  Tensor wanted = wide(shape);
  Tensor wanted_dweight = wide({at.width});
  Tensor wanted_dbias = wide({at.width});
  BackwardArgs on_cpu{.x = x.wide,
                      .weight = w.wide,
                      .mean = mean.wide,
                      .rstd = rstd.wide,
                      .dy = dy.wide,
                      .dx = wanted,
                      .dweight = wanted_dweight,
                      .dbias = wanted_dbias};
  if (past) {
    on_gpu.dsum = place == Place::kOverDsum ? dx.view() : dsum.gpu.view();
    on_cpu.dsum = dsum.wide.view();
  }
  if (sums) {
    on_gpu.dweight = dweight;
    on_gpu.dbias = dbias;
  }
  backward(centred, on_gpu, gpu);
  backward(centred, on_cpu, cpu);
  HEW_CHECK_CLOSE(dx, wanted, tolerance.stored, 4 * tolerance.sums);
  if (!sums)
    return;
  // M products of about 1 each.
  const double of_rows = 2 * test::epsilon(accumulator) * static_cast<double>(at.rows + 16);
  HEW_CHECK_CLOSE(dweight, wanted_dweight, of_rows, of_rows);
  if (centred)
    HEW_CHECK_CLOSE(dbias, wanted_dbias, of_rows, of_rows);
  if (place != Place::kOwn)
    return;
  Tensor again = test::poisoned({at.width}, accumulator, gpu);
  on_gpu.dweight = again;
  backward(centred, on_gpu, gpu);
  CHECK(test::same_bytes(again, dweight));
}

}  // namespace

TEST_CASE("norms on a GPU agree with the CPU's in float64") {
  for (const DType dtype : kTypes) {
    for (const Case& whole : kCases) {
      const Case at = cut(whole);
      CAPTURE(text(at, dtype));
      const Inputs inputs(at, dtype);
      check_forward(inputs, /*centred=*/true, /*biased=*/true, /*residual=*/false);
      check_forward(inputs, /*centred=*/true, /*biased=*/false, /*residual=*/true);
      check_forward(inputs, /*centred=*/false, /*biased=*/false, /*residual=*/false);
      check_forward(inputs, /*centred=*/false, /*biased=*/false, /*residual=*/true);
    }
  }
}

TEST_CASE("norm gradients on a GPU agree with the CPU's in float64") {
  for (const DType dtype : kTypes) {
    for (const Case& whole : kCases) {
      const Case at = cut(whole);
      CAPTURE(text(at, dtype));
      const Inputs inputs(at, dtype);
      for (const bool centred : {true, false}) {
        CAPTURE(centred);
        check_backward(inputs, centred, /*past=*/false, /*sums=*/true, Place::kOwn);
        check_backward(inputs, centred, /*past=*/true, /*sums=*/true, Place::kOwn);
      }
    }
  }
}

TEST_CASE("norms on a GPU work in place") {
  const Stream& gpu = test::gpu_stream();
  for (const DType dtype : kTypes) {
    for (const Case& at : {Case{37, 768}, Case{37, 769}, Case{9, 4096}}) {
      CAPTURE(text(at, dtype));
      const Inputs inputs(at, dtype);
      check_backward(inputs, /*centred=*/true, /*past=*/true, /*sums=*/true, Place::kOverDy);
      check_backward(inputs, /*centred=*/true, /*past=*/true, /*sums=*/false, Place::kOverDsum);
      const auto& [same_at, same_dtype, shape, x, residual, dy, w, b] = inputs;
      Tensor rstd = test::poisoned({at.rows}, accumulator_of(dtype), gpu);
      Tensor sum = test::poisoned(shape, dtype, gpu);
      Tensor y = test::poisoned(shape, dtype, gpu);
      ForwardArgs args{.x = x.gpu,
                       .residual = residual.gpu,
                       .weight = w.gpu,
                       .bias = {},
                       .sum = sum,
                       .y = y,
                       .mean = {},
                       .rstd = rstd};
      forward(/*centred=*/false, args, gpu);
      Tensor x_and_y = x.gpu.clone();
      Tensor residual_and_sum = residual.gpu.clone();
      args.x = x_and_y;
      args.y = x_and_y;
      args.residual = residual_and_sum;
      args.sum = residual_and_sum;
      forward(/*centred=*/false, args, gpu);
      CHECK(test::same_bytes(x_and_y, y));
      CHECK(test::same_bytes(residual_and_sum, sum));
    }
  }
}

}  // namespace hew
