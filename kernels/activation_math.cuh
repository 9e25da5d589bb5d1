#pragma once

#include <cmath>
#include <type_traits>

#include "kernels/activation.h"
#include "kernels/fast_math.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {

/// Whether the functions below are wanted to about 1e-6, which is enough for bfloat16, and are made
/// in few instructions; else to a few units in the last place of D.
template <class D>
inline constexpr bool kFast = !std::is_same_v<D, ComputeType<D>>;

/// s = 1/(1 + e^−x), and s·(1 − s), without overflow. Neither has cancellation, but for the fast
/// slope, whose absolute error is 1e-7.
template <class A>
struct Logistic {
  A value;
  A slope;
};
template <class D>
__device__ inline Logistic<ComputeType<D>> logistic(ComputeType<D> x) {
  using A = ComputeType<D>;
  if constexpr (kFast<D>) {
    const float s = reciprocal_fast(1.0F + exp_fast(-x));
    return {s, s - s * s};
  } else {
    const A e = std::exp(-std::fabs(x));
    const A r = A(1) / (A(1) + e);
    return {x < A(0) ? e * r : r, e * r * r};
  }
}

/// Φ(x) and its derivative φ(x).
template <class A>
struct Normal {
  A value;
  A slope;
};
template <class D>
__device__ inline Normal<ComputeType<D>> standard_normal(ComputeType<D> x) {
  using A = ComputeType<D>;
  constexpr A kInvSqrtTwoPi = A(0.39894228040143267794);
  if constexpr (kFast<D>) {
    const float bell = exp_fast(-0.5F * x * x);
    // erfc(z) = e^{−z²}·t·P(t), t = 1/(1 + 0.46 z), z = |x|/√2; P fitted on z ≥ 0 to a relative
    // error of 7e-7. The halves of erfc are in the coefficients.
    const float t = reciprocal_fast(1.0F + 0.46F * 0.70710678F * fabsf(x));
    float p = 0.03387628301F;
    p = p * t - 0.11337741932F;
    p = p * t + 0.08467666881F;
    p = p * t + 0.02625298063F;
    p = p * t + 0.09344142949F;
    p = p * t + 0.11558806988F;
    p = p * t + 0.12977881877F;
    p = p * t + 0.12976352740F;
    const float tail = bell * t * p;
    return {x < 0.0F ? tail : 1.0F - tail, kInvSqrtTwoPi * bell};
  } else {
    const A bell = std::exp(A(-0.5) * x * x);
    if constexpr (std::is_same_v<A, float>)
      return {normcdff(x), kInvSqrtTwoPi * bell};
    else
      return {normcdf(x), kInvSqrtTwoPi * bell};
  }
}

/// x·Φ(x) for bfloat16, in few instructions: x⁺ − z·Φ(−z), z = |x|, where log2 Φ(−z) is a
/// polynomial fitted on z ≤ 5.5. Relative error 2e-5 for z ≤ 4, absolute error 3e-6 everywhere.
__device__ inline float gelu_for_bf16(float x) {
  constexpr float kFar = 10;  // Φ(−z) < 2⁻⁷⁰, and the polynomial still falls
  const float z = fminf(fabsf(x), kFar);
  float p = 2.79578417e-05F;
  p = p * z - 0.000687693944F;
  p = p * z + 0.00763526652F;
  p = p * z - 0.0523389205F;
  p = p * z - 0.459917754F;
  p = p * z - 1.15074813F;
  p = p * z - 1.00002682F;
  return (x <= 0.0F ? 0.0F : x) - z * exp2_fast(p);
}

/// The argument u of GPT-2's form, which is x·logistic(2u), and its derivative.
template <class A>
struct TanhArgument {
  A twice;
  A twice_slope;
};
template <class A>
__device__ inline TanhArgument<A> tanh_argument(A x) {
  constexpr A kTwice = A(2 * 0.79788456080286535588);
  constexpr A kCubic = A(0.044715);
  const A square = x * x;
  return {x * (kTwice + kTwice * kCubic * square), kTwice + A(3) * kTwice * kCubic * square};
}

/// act(x); NaN stays NaN.
template <Activation kind, class D>
__device__ inline ComputeType<D> activated(ComputeType<D> x) {
  using A = ComputeType<D>;
  if constexpr (kind == Activation::kRelu)
    return x <= A(0) ? A(0) : x;
  else if constexpr (kind == Activation::kGelu && kFast<D>)
    return gelu_for_bf16(x);
  else if constexpr (kind == Activation::kGelu)
    return x * standard_normal<D>(x).value;
  else if constexpr (kind == Activation::kGeluTanh)
    return x * logistic<D>(tanh_argument(x).twice).value;
  else if constexpr (kind == Activation::kSilu)
    return x * logistic<D>(x).value;
  else
    return x;
}

/// dy·act'(x)
template <Activation kind, class D>
__device__ inline ComputeType<D> activation_gradient(ComputeType<D> x, ComputeType<D> dy) {
  using A = ComputeType<D>;
  if constexpr (kind == Activation::kRelu) {
    return x > A(0) ? dy : A(0);
  } else if constexpr (kind == Activation::kGelu) {
    const auto normal = standard_normal<D>(x);
    return dy * (normal.value + x * normal.slope);
  } else if constexpr (kind == Activation::kGeluTanh) {
    const auto u = tanh_argument(x);
    const auto s = logistic<D>(u.twice);
    return dy * (s.value + x * s.slope * u.twice_slope);
  } else if constexpr (kind == Activation::kSilu) {
    const auto s = logistic<D>(x);
    return dy * (s.value + x * s.slope);
  } else {
    return dy;
  }
}

/// Calls body(std::integral_constant<Activation, kind>) for a kind known at run time.
template <class Body>
void for_activation(Activation kind, const Body& body) {
  switch (kind) {
    case Activation::kNone:
      return body(std::integral_constant<Activation, Activation::kNone>{});
    case Activation::kRelu:
      return body(std::integral_constant<Activation, Activation::kRelu>{});
    case Activation::kGelu:
      return body(std::integral_constant<Activation, Activation::kGelu>{});
    case Activation::kGeluTanh:
      return body(std::integral_constant<Activation, Activation::kGeluTanh>{});
    case Activation::kSilu:
      return body(std::integral_constant<Activation, Activation::kSilu>{});
  }
}

}  // namespace hew::kernels
