#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace hew::kernels {

/// What a device type is computed in: float for bfloat16, else itself.
template <class D>
struct ComputeTypeOf {
  using Type = D;
};
template <>
struct ComputeTypeOf<__nv_bfloat16> {
  using Type = float;
};
template <class D>
using ComputeType = typename ComputeTypeOf<D>::Type;

template <class D>
__device__ inline ComputeType<D> widen(D value) {
  return value;
}
template <>
__device__ inline float widen(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

/// Rounded to nearest even.
template <class D>
__device__ inline D narrow(ComputeType<D> value) {
  return value;
}
template <>
__device__ inline __nv_bfloat16 narrow(float value) {
  return __float2bfloat16_rn(value);
}

/// n neighbours in memory, moved in one access of up to 16 bytes.
template <class D, int n>
struct alignas(sizeof(D) * n) Pack {
  D lane[n];
};

/// Elements of one 16-byte access.
template <class D>
inline constexpr int kPackSize = 16 / static_cast<int>(sizeof(D));

template <class D, int n>
__device__ inline void load(const D* from, ComputeType<D> (&to)[n]) {
  const Pack<D, n> pack = *reinterpret_cast<const Pack<D, n>*>(from);
#pragma unroll
  for (int i = 0; i < n; ++i) to[i] = widen(pack.lane[i]);
}

template <class D, int n>
__device__ inline void store(D* to, const ComputeType<D> (&from)[n]) {
  Pack<D, n> pack;
#pragma unroll
  for (int i = 0; i < n; ++i) pack.lane[i] = narrow<D>(from[i]);
  *reinterpret_cast<Pack<D, n>*>(to) = pack;
}

/// Whether all addresses allow 16-byte accesses; what has a length must have a multiple of
/// kPackSize elements too.
template <class... Pointers>
inline bool packable(const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace hew::kernels
