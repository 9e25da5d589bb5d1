#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew::test {

/// Sizes of one call of attention.
struct AttentionCase {
  std::int64_t batch = 1;
  std::int64_t queries = 1;
  std::int64_t keys = 1;
  std::int64_t heads = 1;
  std::int64_t key_heads = 1;
  std::int64_t width = 1;
  bool causal = true;
  double scale = 0;

  Shape q_shape() const { return {batch, queries, heads, width}; }
  Shape k_shape() const { return {batch, keys, key_heads, width}; }
  Shape lse_shape() const { return {batch, heads, queries}; }
  kernels::AttentionOptions options() const { return {.causal = causal, .scale = scale}; }
  std::string text() const {
    return fmt::format("B {}, Tq {}, Tk {}, H {}, Hkv {}, D {}, {}", batch, queries, keys, heads,
                       key_heads, width, causal ? "causal" : "full");
  }
};

// Of the rows of `width` values of a float64 tensor.
inline double largest_norm(const Tensor& x, std::int64_t width) {
  double largest = 0;
  for (std::int64_t row = 0; row < x.numel() / width; ++row) {
    double squares = 0;
    for (std::int64_t d = 0; d < width; ++d) {
      const double value = x.data<double>()[row * width + d];
      squares += value * value;
    }
    largest = std::max(largest, std::sqrt(squares));
  }
  return largest;
}

struct AttentionGradients {
  AttentionGradients(const AttentionCase& c, DType dtype, const Stream& stream)
      : dq(poisoned(c.q_shape(), dtype, stream)),
        dk(poisoned(c.k_shape(), dtype, stream)),
        dv(poisoned(c.k_shape(), dtype, stream)) {}
  Tensor dq;
  Tensor dk;
  Tensor dv;
};

inline Tensor unchanged(const Tensor& values) {
  return values;
}

// Inputs of one case, and what the CPU makes of them in float64. The backward pass starts on both
// sides from the same rounded y and lse.
struct AttentionProblem {
  /// `prepare` is given the random float64 values of an input.
  AttentionProblem(const AttentionCase& sizes, DType type,
                   Tensor (*prepare)(const Tensor&) = unchanged)
      : c(sizes),
        dtype(type),
        q(gpu_input(prepare(values(c.q_shape(), 1)), dtype)),
        k(gpu_input(prepare(values(c.k_shape(), 2)), dtype)),
        v(gpu_input(prepare(values(c.k_shape(), 3)), dtype)),
        dy(gpu_input(prepare(values(c.q_shape(), 4)), dtype)),
        y_wanted(poisoned(c.q_shape(), DType::kFloat64, cpu)),
        lse_wanted(poisoned(c.lse_shape(), DType::kFloat64, cpu)),
        wanted(c, DType::kFloat64, cpu) {
    kernels::attention_forward({.q = q.wide,
                                .k = k.wide,
                                .v = v.wide,
                                .options = c.options(),
                                .y = y_wanted,
                                .lse = lse_wanted},
                               cpu);
    const GpuInput y = gpu_input(y_wanted, dtype);
    const GpuInput lse = gpu_input(lse_wanted, accumulator_of(dtype));
    y_given = y.gpu;
    lse_given = lse.gpu;
    reference_backward(y.wide, lse.wide, dy.wide, wanted);
    // With dy = 1 the gradient of v is what each key is given of all queries' attention.
    Tensor ones = Tensor::from(std::vector<double>(static_cast<std::size_t>(dy.wide.numel()), 1.0),
                               c.q_shape(), cpu);
    AttentionGradients attention(c, DType::kFloat64, cpu);
    reference_backward(y.wide, lse.wide, ones, attention);
    key_mass = largest(attention.dv);
  }

  /// Standard normal, float64, on the host.
  static Tensor values(const Shape& shape, std::uint64_t seed) {
    return random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed);
  }

  void reference_backward(const Tensor& y, const Tensor& lse, const Tensor& gradient,
                          AttentionGradients& out) const {
    kernels::attention_backward({.q = q.wide,
                                 .k = k.wide,
                                 .v = v.wide,
                                 .y = y,
                                 .lse = lse,
                                 .dy = gradient,
                                 .options = c.options(),
                                 .dq = out.dq,
                                 .dk = out.dk,
                                 .dv = out.dv},
                                cpu);
  }

  void forward(Tensor& y, Tensor& lse) const {
    const Stream& gpu = gpu_stream();
    kernels::attention_forward(
        {.q = q.gpu, .k = k.gpu, .v = v.gpu, .options = c.options(), .y = y, .lse = lse}, gpu);
  }

  AttentionGradients backward() const {
    const Stream& gpu = gpu_stream();
    AttentionGradients out(c, dtype, gpu);
    kernels::attention_backward({.q = q.gpu,
                                 .k = k.gpu,
                                 .v = v.gpu,
                                 .y = y_given,
                                 .lse = lse_given,
                                 .dy = dy.gpu,
                                 .options = c.options(),
                                 .dq = out.dq,
                                 .dk = out.dk,
                                 .dv = out.dv},
                                gpu);
    return out;
  }

  Stream cpu = make_cpu_stream();
  AttentionCase c;
  DType dtype;
  GpuInput q;
  GpuInput k;
  GpuInput v;
  GpuInput dy;
  Tensor y_wanted;
  Tensor lse_wanted;
  AttentionGradients wanted;
  Tensor y_given;
  Tensor lse_given;
  double key_mass = 0;  // largest Σ_i p[i, j]
};

// Bounds on errors where only results are rounded to the dtype, weights and ds to `rounding` of
// their size before they are multiplied, and all else to the accumulator. A sum of n terms is off
// by 4·√n roundings of the sum of their magnitudes.
struct AttentionBounds {
  explicit AttentionBounds(const AttentionProblem& p, double rounding = 0) {
    const auto sum = [u = unit_roundoff(accumulator_of(p.dtype))](std::int64_t terms) {
      return 4 * u * std::sqrt(static_cast<double>(terms));
    };
    const AttentionCase& c = p.c;
    const double unit = unit_roundoff(accumulator_of(p.dtype));
    const double scale = c.scale == 0 ? 1 / std::sqrt(static_cast<double>(c.width)) : c.scale;
    // |scale·q·k|, and |dy·v|, which bounds |dy·y| too.
    const double score = scale * largest_norm(p.q.wide, c.width) * largest_norm(p.k.wide, c.width);
    const double product = largest_norm(p.dy.wide, c.width) * largest_norm(p.v.wide, c.width);
    const std::int64_t readers = c.queries * c.heads / c.key_heads;
    // Of a weight e^(score − lse), relative: its exponent's error, and a few roundings a tile.
    const double weight = 2 * score * (sum(c.width) + 4 * unit) + 2 * sum(c.keys) + 32 * unit;
    // Of ds / (scale·p).
    const double slope = 2 * product * (weight + sum(c.width));

    y = (2 * weight + rounding) * largest(p.v.wide);
    lse = 2 * weight + 2 * unit * largest(p.lse_wanted);
    dq = largest(p.k.wide) * scale * (slope + 2 * product * (rounding + sum(c.keys)));
    dk = p.key_mass * largest(p.q.wide) * scale * (slope + 2 * product * (rounding + sum(readers)));
    dv = p.key_mass * largest(p.dy.wide) * (weight + rounding + sum(readers));
  }
  double y;
  double lse;
  double dq;
  double dk;
  double dv;
};

inline bool same_on_gpu(const Tensor& a, const Tensor& b) {
  return same_bytes(on_cpu(a), on_cpu(b));
}

// With small sizes still more rows than a tile has, and than a block of the plain kernels owns.
inline AttentionCase cut(AttentionCase c) {
  c.queries = cut(c.queries, 45);
  c.keys = cut(c.keys, 45);
  return c;
}

}  // namespace hew::test
