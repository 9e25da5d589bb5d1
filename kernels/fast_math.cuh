#pragma once

/// The hardware's functions, one instruction each; denormals are 0.
namespace hew::kernels {

/// 2^x, to a relative error of 2⁻²²; below 2⁻¹²⁶ it is 0.
__device__ inline float exp2_fast(float x) {
  float y = 0;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// e^x, to a relative error of 2⁻²² and of 2⁻²⁴ for each unit of |x|.
__device__ inline float exp_fast(float x) {
  constexpr float kLog2E = 1.44269504F;
  return exp2_fast(kLog2E * x);
}

/// 1/x, to one unit in the last place; of 0 and infinity the other.
__device__ inline float reciprocal_fast(float x) {
  float y = 0;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace hew::kernels
