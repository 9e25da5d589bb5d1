#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/hopper/swizzle.h"

/// Warpgroup matrix instructions of Hopper (sm_90a): one warpgroup multiplies tiles that lie in
/// shared memory into sums in its registers. Source: PTX ISA, "Asynchronous warpgroup level matrix
/// instructions".
namespace hew::kernels::hopper {

/// Which elements of an operand are neighbours in shared memory: those that are multiplied and
/// summed with each other (along the product's depth, PTX's "K-major"), or those of one step of the
/// depth ("MN-major").
enum class Major { kDepth = 0, kAcross = 1 };

/// Descriptor of an operand at `address` in shared memory. `group` is the distance in bytes of
/// groups of 8 rows; `stride` that of neighbouring groups of 64 (32, 16) elements across, which
/// only Major::kAcross uses.
template <Swizzle swizzle>
__device__ inline std::uint64_t descriptor(std::uint32_t address, std::uint32_t stride,
                                           std::uint32_t group) {
  return static_cast<std::uint64_t>((address & 0x3FFFF) >> 4) |
         static_cast<std::uint64_t>(stride >> 4) << 16 |
         static_cast<std::uint64_t>(group >> 4) << 32 | static_cast<std::uint64_t>(swizzle) << 62;
}

/// Orders this warpgroup's accesses to its registers and its wgmma; before the first of a batch.
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Ends a batch.
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most n batches are unfinished.
template <int n>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}

/// After wgmma_wait: what uses the sum stays behind it.
__device__ inline void settle(float& sum) {
  asm volatile("" : "+f"(sum)::"memory");
}

/// The same of a copy, for sums that other ways through a loop leave in flight: there, a new value
/// would have to wait for them.
__device__ inline float settled(float sum) {
  float out = 0;
  asm volatile("mov.f32 %0, %1;" : "=f"(out) : "f"(sum) : "memory");
  return out;
}

#define HEW_SUMS_8(i)                                                                         \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define HEW_SUMS_32(i) HEW_SUMS_8(i), HEW_SUMS_8(i + 8), HEW_SUMS_8(i + 16), HEW_SUMS_8(i + 24)
#define HEW_NAMES_0_23                     \
  "%0, %1, %2, %3, %4, %5, %6, %7, "       \
  "%8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23"
#define HEW_NAMES_32_39 "%32, %33, %34, %35, %36, %37, %38, %39"
#define HEW_NAMES_0                          \
  "%0, %1, %2, %3, %4, %5, %6, %7, "         \
  "%8, %9, %10, %11, %12, %13, %14, %15, "   \
  "%16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define HEW_NAMES_32                         \
  "%32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define HEW_NAMES_64                         \
  "%64, %65, %66, %67, %68, %69, %70, %71, " \
  "%72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, " \
  "%88, %89, %90, %91, %92, %93, %94, %95"
#define HEW_NAMES_96                                 \
  "%96, %97, %98, %99, %100, %101, %102, %103, "     \
  "%104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, " \
  "%120, %121, %122, %123, %124, %125, %126, %127"

/// d[64 × n] ← a[64 × 16]·b[16 × n] (+ d where `add`), bfloat16 operands given by descriptors.
/// Lane l of warp w holds in d[4·i + 2·h + e] the sum at row 16·w + l/4 + 8·h and column
/// 8·i + 2·(l mod 4) + e.
template <int n, Major a_major, Major b_major>
struct WgmmaBf16;

template <Major a_major, Major b_major>
struct WgmmaBf16<48, a_major, b_major> {
  static constexpr int kDepth = 16;
  __device__ static void multiply(float (&d)[24], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %26, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n48k16.f32.bf16.bf16 {" HEW_NAMES_0_23
        "}, "
        "%24, %25, p, 1, 1, %27, %28;\n}\n"
        : HEW_SUMS_8(0), HEW_SUMS_8(8), HEW_SUMS_8(16)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(a_major)),
          "n"(static_cast<int>(b_major)));
  }
};

template <Major a_major, Major b_major>
struct WgmmaBf16<64, a_major, b_major> {
  static constexpr int kDepth = 16;
  __device__ static void multiply(float (&d)[32], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" HEW_NAMES_0
        "}, "
        "%32, %33, p, 1, 1, %35, %36;\n}\n"
        : HEW_SUMS_32(0)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(a_major)),
          "n"(static_cast<int>(b_major)));
  }
};

template <Major a_major, Major b_major>
struct WgmmaBf16<80, a_major, b_major> {
  static constexpr int kDepth = 16;
  __device__ static void multiply(float (&d)[40], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %42, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 {" HEW_NAMES_0 ", " HEW_NAMES_32_39
        "}, "
        "%40, %41, p, 1, 1, %43, %44;\n}\n"
        : HEW_SUMS_32(0), HEW_SUMS_8(32)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(a_major)),
          "n"(static_cast<int>(b_major)));
  }
};

template <Major a_major, Major b_major>
struct WgmmaBf16<128, a_major, b_major> {
  static constexpr int kDepth = 16;
  __device__ static void multiply(float (&d)[64], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" HEW_NAMES_0 ", " HEW_NAMES_32
        "}, "
        "%64, %65, p, 1, 1, %67, %68;\n}\n"
        : HEW_SUMS_32(0), HEW_SUMS_32(32)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(a_major)),
          "n"(static_cast<int>(b_major)));
  }
};

template <Major a_major, Major b_major>
struct WgmmaBf16<192, a_major, b_major> {
  static constexpr int kDepth = 16;
  __device__ static void multiply(float (&d)[96], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" HEW_NAMES_0 ", " HEW_NAMES_32
        ", " HEW_NAMES_64
        "}, "
        "%96, %97, p, 1, 1, %99, %100;\n}\n"
        : HEW_SUMS_32(0), HEW_SUMS_32(32), HEW_SUMS_32(64)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(a_major)),
          "n"(static_cast<int>(b_major)));
  }
};

template <Major a_major, Major b_major>
struct WgmmaBf16<256, a_major, b_major> {
  static constexpr int kDepth = 16;
  __device__ static void multiply(float (&d)[128], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" HEW_NAMES_0 ", " HEW_NAMES_32
        ", " HEW_NAMES_64 ", " HEW_NAMES_96
        "}, "
        "%128, %129, p, 1, 1, %131, %132;\n}\n"
        : HEW_SUMS_32(0), HEW_SUMS_32(32), HEW_SUMS_32(64), HEW_SUMS_32(96)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(a_major)),
          "n"(static_cast<int>(b_major)));
  }
};

/// d[64 × n] ← a[64 × 8]·b[8 × n] (+ d where `add`), float32 operands of which it reads what tf32
/// has, the upper 19 bits. Both lie along the depth.
template <int n>
struct WgmmaTf32;

template <>
struct WgmmaTf32<128> {
  static constexpr int kDepth = 8;
  __device__ static void multiply(float (&d)[64], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {" HEW_NAMES_0 ", " HEW_NAMES_32
        "}, "
        "%64, %65, p, 1, 1;\n}\n"
        : HEW_SUMS_32(0), HEW_SUMS_32(32)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)));
  }
};

template <>
struct WgmmaTf32<256> {
  static constexpr int kDepth = 8;
  __device__ static void multiply(float (&d)[128], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k8.f32.tf32.tf32 {" HEW_NAMES_0 ", " HEW_NAMES_32
        ", " HEW_NAMES_64 ", " HEW_NAMES_96
        "}, "
        "%128, %129, p, 1, 1;\n}\n"
        : HEW_SUMS_32(0), HEW_SUMS_32(32), HEW_SUMS_32(64), HEW_SUMS_32(96)
        : "l"(a), "l"(b), "r"(static_cast<int>(add)));
  }
};

/// By the type of the operands: float is multiplied as tf32.
template <class Element, int n, Major a_major, Major b_major>
struct Wgmma;
template <int n, Major a_major, Major b_major>
struct Wgmma<__nv_bfloat16, n, a_major, b_major> : WgmmaBf16<n, a_major, b_major> {};
template <int n>
struct Wgmma<float, n, Major::kDepth, Major::kDepth> : WgmmaTf32<n> {};

#undef HEW_SUMS_8
#undef HEW_SUMS_32
#undef HEW_NAMES_0_23
#undef HEW_NAMES_32_39
#undef HEW_NAMES_0
#undef HEW_NAMES_32
#undef HEW_NAMES_64
#undef HEW_NAMES_96

}  // namespace hew::kernels::hopper
