#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels/bsr.h"
#include "kernels/bsr_routes.h"
#include "kernels/elementwise.h"
#include "kernels/product_settings.h"
#include "kernels/swiglu.h"
#include "tests/kernels/bsr_case.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

/// Products that end in a gate or in a residual, or go back through a gate.

namespace hew {
namespace {

using test::BlockPattern;
using test::gpu_stream;
using test::kHopperTypes;
using test::kTypes;
using test::random_pattern;
using test::Type;

enum class Placed : std::uint8_t { kAligned, kMisaligned, kFolded };

// All matrices of random values on the GPU, and what they are in float64 on the CPU.
class Case {
 public:
  Case(const BlockPattern& pattern, std::int64_t tokens, const Type& type, Placed placed)
      : pattern_(pattern),
        uploaded_(pattern, gpu_stream()),
        type_(type),
        placed_(placed),
        by_rows_{tokens, pattern.rows},
        by_cols_{tokens, pattern.cols},
        values_(input(with_zero_padding(random(pattern.values_shape(), 1), pattern))) {
    const Stream& gpu = gpu_stream();
    gpu.state->get<kernels::ProductSettings>(gpu).tf32 = type.tf32;
    gpu.state->get<kernels::BsrSettings>(gpu).folding =
        placed == Placed::kFolded ? kernels::BsrFolding::kFolded : kernels::BsrFolding::kOwn;
  }
  ~Case() {
    const Stream& gpu = gpu_stream();
    gpu.state->get<kernels::BsrSettings>(gpu).folding = kernels::BsrFolding::kAuto;
    gpu.state->get<kernels::ProductSettings>(gpu).tf32 = false;
  }
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  void check() const {
    check_forward();
    check_gradient();
  }

 private:
  static Tensor random(const Shape& shape, std::uint64_t seed) {
    return test::random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed);
  }
  test::GpuInput input(const Tensor& values) const {
    return test::gpu_input(test::rounded(values, type_.exact), type_.dtype);
  }
  Tensor on_gpu(const Tensor& t) const {
    return placed_ == Placed::kMisaligned ? test::misaligned(t) : t;
  }
  Tensor result(const Shape& shape) const {
    return on_gpu(test::poisoned(shape, type_.dtype, gpu_stream()));
  }
  double unit() const { return test::unit_roundoff(type_.dtype); }
  // As in bsr_cuda_test.cc, of a sum of `depth` products of normal values.
  double tolerance(std::int64_t depth) const {
    const auto terms = static_cast<double>(depth) + 2;
    return terms * test::unit_roundoff(accumulator_of(type_.dtype)) * 8 * std::sqrt(terms);
  }
  // A library's product may be rounded before its bias is added.
  double of_rounding(const Tensor& product, const Tensor& bias) const {
    return placed_ == Placed::kFolded ? unit() * (test::largest(product) + test::largest(bias)) : 0;
  }
  // Sums may be rounded before they go on, and activations err by 1e-6 at most.
  double slack(const Tensor& product) const {
    return test::largest(product) * (type_.dtype == DType::kFloat64 ? 0x1p-50 : 8e-6);
  }

  void check_forward() const {
    const Stream cpu = make_cpu_stream();
    const test::GpuInput x = input(random(by_cols_, 2));
    const test::GpuInput beside = input(random(by_rows_, 3));
    const test::GpuInput bias = input(random({pattern_.rows}, 4));
    Tensor product = Tensor::empty(by_rows_, DType::kFloat64, cpu);
    kernels::bsr_forward({.x = x.wide,
                          .values = values_.wide,
                          .index = pattern_.index(),
                          .bias = bias.wide,
                          .y = product},
                         cpu);
    Tensor gated = Tensor::empty(by_rows_, DType::kFloat64, cpu);
    kernels::swiglu_forward(beside.wide, product, gated, cpu);
    Tensor sum = Tensor::empty(by_rows_, DType::kFloat64, cpu);
    kernels::add(product, beside.wide, sum, cpu);
    const double absolute = tolerance(pattern_.cols) + of_rounding(product, bias.wide);
    const Tensor other = on_gpu(beside.gpu);
    const Tensor in = on_gpu(x.gpu);
    const Tensor values = on_gpu(values_.gpu);
    const kernels::BsrForwardArgs args{
        .x = in, .values = values, .index = uploaded_.index(), .bias = bias.gpu, .y = {}};
    for (const bool keep : {true, false}) {
      CAPTURE(keep);
      Tensor y = result(by_rows_);
      Tensor pre = result(by_rows_);
      kernels::BsrForwardArgs with_gate = args;
      with_gate.gate = other;
      with_gate.y = y;
      with_gate.pre = keep ? pre.view() : View{};
      kernels::bsr_forward(with_gate, gpu_stream());
      // |silu(gate)| stays below 6.
      HEW_CHECK_CLOSE(test::on_cpu(y), gated, 4 * unit(), 6 * absolute + slack(product));
      if (keep)
        HEW_CHECK_CLOSE(test::on_cpu(pre), product, unit(), absolute);
    }
    Tensor y = result(by_rows_);
    kernels::BsrForwardArgs with_residual = args;
    with_residual.residual = other;
    with_residual.y = y;
    kernels::bsr_forward(with_residual, gpu_stream());
    HEW_CHECK_CLOSE(test::on_cpu(y), sum, unit(), absolute + unit() * test::largest(product));
  }

  void check_gradient() const {
    const Stream cpu = make_cpu_stream();
    const test::GpuInput dy = input(random(by_rows_, 5));
    const test::GpuInput gate = input(random(by_cols_, 6));
    const test::GpuInput up = input(random(by_cols_, 7));
    Tensor d = Tensor::empty(by_cols_, DType::kFloat64, cpu);
    kernels::bsr_input_gradient(
        {.dy = dy.wide, .values = values_.wide, .index = pattern_.index(), .dx = d}, cpu);
    Tensor dgate = Tensor::empty(by_cols_, DType::kFloat64, cpu);
    Tensor dup = Tensor::empty(by_cols_, DType::kFloat64, cpu);
    kernels::swiglu_backward(
        {.gate = gate.wide, .up = up.wide, .dy = d, .dgate = dgate, .dup = dup}, cpu);
    Tensor got_gate = result(by_cols_);
    Tensor got_up = result(by_cols_);
    const Tensor from = on_gpu(dy.gpu);
    const Tensor values = on_gpu(values_.gpu);
    const Tensor gates = on_gpu(gate.gpu);
    const Tensor ups = on_gpu(up.gpu);
    kernels::bsr_input_gradient({.dy = from,
                                 .values = values,
                                 .index = uploaded_.index(),
                                 .dx = got_up,
                                 .gate = gates,
                                 .up = ups,
                                 .dgate = got_gate},
                                gpu_stream());
    const double absolute = 7 * tolerance(pattern_.rows) + 6 * slack(d);
    HEW_CHECK_CLOSE(test::on_cpu(got_gate), dgate, 4 * unit(), absolute);
    HEW_CHECK_CLOSE(test::on_cpu(got_up), dup, 4 * unit(), absolute);
  }

  BlockPattern pattern_;
  test::UploadedPattern uploaded_;
  Type type_;
  Placed placed_;
  Shape by_rows_;  // [M, N]
  Shape by_cols_;  // [M, K]
  test::GpuInput values_;
};

}  // namespace

TEST_CASE("block-sparse products on a GPU end in gates and residuals") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {8, 16, 32, 64, 128}) {
      CAPTURE(b);
      for (const std::int64_t tokens : {1, 300}) {
        CAPTURE(tokens);
        const BlockPattern pattern = random_pattern(3 * b, 4 * b + 8, b, 0.4, 8);
        Case(pattern, tokens, type, Placed::kAligned).check();
        Case(pattern, tokens, type, Placed::kMisaligned).check();
      }
    }
  }
}

// More tiles than multiprocessors, made together and alone.
TEST_CASE("block-sparse products on a Hopper end in gates and residuals over many rounds") {
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {16, 32, 64, 128}) {
      CAPTURE(b);
      for (const double density : {0.04, 0.6}) {
        CAPTURE(density);
        Case(random_pattern(10 * 128, 6 * 128, b, density, 12), test::cut(9000, 600), type,
             Placed::kAligned)
            .check();
      }
    }
  }
}

TEST_CASE("block-sparse products on a Hopper end long rows in gates and residuals") {
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {64, 128}) {
      CAPTURE(b);
      for (const bool by_rows : {true, false}) {
        CAPTURE(by_rows);
        const std::int64_t few = 12 * b - 8;
        const std::int64_t many = 7168;
        const BlockPattern pattern = test::make_pattern(
            by_rows ? few : many, by_rows ? many : few, b, [&](std::int64_t r, std::int64_t c) {
              const std::int64_t line = by_rows ? r : c;
              return (r * 37 + c * 61 + r * c * 13) % 101 < (line == 7 ? 90 : 9);
            });
        Case(pattern, test::cut(300, 70), type, Placed::kAligned).check();
      }
    }
  }
}

TEST_CASE("folded block-sparse products on a GPU end in gates and residuals") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    Case(random_pattern(200, 328, 32, 0.5, 8), 301, type, Placed::kFolded).check();
  }
}

}  // namespace hew
