#pragma once

#include <array>
#include <cmath>

#include "kernels/bsr.h"
#include "kernels/bsr_routes.h"
#include "kernels/product_settings.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"

/// Block-sparse products of one pattern on the GPU, and the CPU's in float64.
namespace hew::test {

using kernels::Activation;

// What is multiplied: values of a dtype, of float32 perhaps as tf32.
struct Type {
  DType dtype = DType::kFloat32;
  bool tf32 = false;
  // Values that are exact in this dtype are exact factors: products err by their sums alone.
  DType exact = dtype;

  std::string_view name() const { return tf32 ? "tf32" : name_of(dtype); }
};

inline constexpr Type kFloat32{.dtype = DType::kFloat32};
inline constexpr Type kBFloat16{.dtype = DType::kBFloat16};
inline constexpr Type kTf32{.dtype = DType::kFloat32, .tf32 = true, .exact = DType::kBFloat16};
inline constexpr std::array kTypes{kFloat32, kTf32, Type{.dtype = DType::kFloat64}, kBFloat16};
inline constexpr std::array kHopperTypes{kBFloat16, kTf32};

inline void let_tf32(bool tf32) {
  const Stream& gpu = gpu_stream();
  gpu.state->get<kernels::ProductSettings>(gpu).tf32 = tf32;
}

// Whether dense products may take the place of the kernels under test.
inline void let_fold(bool fold) {
  const Stream& gpu = gpu_stream();
  gpu.state->get<kernels::BsrSettings>(gpu).folding =
      fold ? kernels::BsrFolding::kAuto : kernels::BsrFolding::kOwn;
}

struct Case {
  BlockPattern pattern;
  UploadedPattern uploaded;
  DType dtype;
  GpuInput x;
  GpuInput dy;
  GpuInput values;
  GpuInput bias;
  bool folds = false;  // dense products may take the place of the kernels under test

  Case(const BlockPattern& p, std::int64_t tokens, const Type& type)
      : pattern(p),
        uploaded(upload(p, type)),
        dtype(type.dtype),
        x(input(random({tokens, p.cols}, 1), type)),
        dy(input(random({tokens, p.rows}, 2), type)),
        values(input(with_zero_padding(random(p.values_shape(), 3), p), type)),
        bias(input(random({p.rows}, 4), type)) {
    let_fold(false);
  }

  // A schedule depends on whether products are in tf32.
  static UploadedPattern upload(const BlockPattern& p, const Type& type) {
    let_tf32(type.tf32);
    return {p, gpu_stream()};
  }

  static Tensor random(const Shape& shape, std::uint64_t seed) {
    return random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed);
  }
  static GpuInput input(const Tensor& values_of, const Type& type) {
    return gpu_input(rounded(values_of, type.exact), type.dtype);
  }

  // A library's product may be rounded before its bias is added.
  double of_rounding(const Tensor& sums) const {
    return folds ? unit_roundoff(dtype) * (largest(sums) + largest(bias.wide)) : 0;
  }

  // Of a sum of `depth` products of normal values in the accumulator's precision: |sum| and all
  // partial sums stay below 8·√depth, and each addition errs by a rounding of that.
  double tolerance(std::int64_t depth) const {
    const auto terms = static_cast<double>(depth) + 2;
    return terms * unit_roundoff(accumulator_of(dtype)) * 8 * std::sqrt(terms);
  }
};

struct Outputs {
  Tensor y;
  Tensor pre;
};

inline Outputs forward(const Case& c, Activation activation, bool aligned) {
  const Stream& gpu = gpu_stream();
  Outputs out{.y = poisoned(c.dy.gpu.shape(), c.dtype, gpu),
              .pre = poisoned(c.dy.gpu.shape(), c.dtype, gpu)};
  if (!aligned)
    out = {.y = misaligned(out.y), .pre = misaligned(out.pre)};
  kernels::bsr_forward({.x = aligned ? c.x.gpu : misaligned(c.x.gpu),
                        .values = aligned ? c.values.gpu : misaligned(c.values.gpu),
                        .index = c.uploaded.index(),
                        .bias = c.bias.gpu,
                        .activation = activation,
                        .y = out.y,
                        .pre = out.pre},
                       gpu);
  return out;
}

struct InputGradient {
  Tensor dx;
  Tensor dbias;  // undefined without an activation
};

inline InputGradient input_gradient(const Case& c, Activation activation, bool aligned) {
  const Stream& gpu = gpu_stream();
  auto placed = [&](const Tensor& t) { return aligned ? t : misaligned(t); };
  InputGradient out{.dx = placed(poisoned(c.x.gpu.shape(), c.dtype, gpu)), .dbias = {}};
  if (activation != Activation::kNone)
    out.dbias = poisoned({c.pattern.cols}, accumulator_of(c.dtype), gpu);
  const Tensor pre = placed(c.x.gpu);
  kernels::bsr_input_gradient({.dy = placed(c.dy.gpu),
                               .values = placed(c.values.gpu),
                               .index = c.uploaded.index(),
                               .dx = out.dx,
                               .activation = activation,
                               .pre = activation != Activation::kNone ? pre.view() : ConstView{},
                               .dbias = out.dbias},
                              gpu);
  return out;
}

inline Tensor weight_gradient(const Case& c, bool aligned) {
  const Stream& gpu = gpu_stream();
  Tensor dvalues = poisoned(c.values.gpu.shape(), accumulator_of(c.dtype), gpu);
  kernels::bsr_weight_gradient({.dy = aligned ? c.dy.gpu : misaligned(c.dy.gpu),
                                .x = aligned ? c.x.gpu : misaligned(c.x.gpu),
                                .index = c.uploaded.index(),
                                .dvalues = dvalues},
                               gpu);
  return dvalues;
}

inline Outputs cpu_forward(const Case& c, Activation activation) {
  const Stream cpu = make_cpu_stream();
  Outputs out{.y = Tensor::empty(c.dy.wide.shape(), DType::kFloat64, cpu),
              .pre = Tensor::empty(c.dy.wide.shape(), DType::kFloat64, cpu)};
  kernels::bsr_forward({.x = c.x.wide,
                        .values = c.values.wide,
                        .index = c.pattern.index(),
                        .bias = c.bias.wide,
                        .activation = activation,
                        .y = out.y,
                        .pre = out.pre},
                       cpu);
  return out;
}

inline Tensor cpu_input_gradient(const Case& c) {
  const Stream cpu = make_cpu_stream();
  Tensor dx = Tensor::empty(c.x.wide.shape(), DType::kFloat64, cpu);
  kernels::bsr_input_gradient(
      {.dy = c.dy.wide, .values = c.values.wide, .index = c.pattern.index(), .dx = dx}, cpu);
  return dx;
}

inline Tensor cpu_weight_gradient(const Case& c) {
  const Stream cpu = make_cpu_stream();
  Tensor dvalues = Tensor::empty(c.values.wide.shape(), DType::kFloat64, cpu);
  kernels::bsr_weight_gradient(
      {.dy = c.dy.wide, .x = c.x.wide, .index = c.pattern.index(), .dvalues = dvalues}, cpu);
  return dvalues;
}

}  // namespace hew::test
