#pragma once

#include <cstdint>

namespace hew::kernels {

/// Rounded to nearest tf32, of which mma would only read the upper bits. Before Hopper ties go away
/// from zero instead of to even, and it takes three instructions.
__device__ inline float round_to_tf32(float x) {
  std::uint32_t rounded = 0;
#if __CUDA_ARCH__ >= 900
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
#else
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
#endif
  return __uint_as_float(rounded);
}

/// d[16 × 8] += a[16 × 8]·b[8 × 8] of tf32, by one warp. With g = lane / 4 and t = lane mod 4 a
/// thread holds a at rows g and g + 8 of column t, then of column t + 4; b in column g, rows t and
/// t + 4; d at row g, columns 2t and 2t + 1, then at row g + 8. Source: PTX ISA, "Matrix fragments
/// for mma.m16n8k8".
__device__ inline void multiply_tf32(float& d0, float& d1, float& d2, float& d3, float a0, float a1,
                                     float a2, float a3, float b0, float b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3)
      : "r"(__float_as_uint(a0)), "r"(__float_as_uint(a1)), "r"(__float_as_uint(a2)),
        "r"(__float_as_uint(a3)), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}

}  // namespace hew::kernels
