#pragma once

namespace hew::kernels {

inline constexpr int kWarp = 32;

/// Sum over the 32 lanes of a warp, in every lane; always added in the same order.
template <class A>
__device__ inline A warp_sum(A value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, distance);
  }
  return value;
}

template <class A>
__device__ inline A warp_max(A value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const A other = __shfl_xor_sync(0xffffffffU, value, distance);
    value = other > value || other != other ? other : value;  // a NaN stays
  }
  return value;
}

/// Sum over a block of kThreads (a multiple of 32, up to 1024) in every thread. All threads call
/// it; it may be called again at once.
template <int kThreads, class A>
__device__ inline A block_sum(A value) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  if constexpr (kThreads == kWarp)
    return warp_sum(value);
  __shared__ A partial[kThreads / kWarp];
  value = warp_sum(value);
  __syncthreads();  // the last call's readers are done
  if (threadIdx.x % kWarp == 0)
    partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  A sum = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += partial[warp];
  return sum;
}

template <int kThreads, class A>
__device__ inline A block_max(A value) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  __shared__ A partial[kThreads / kWarp];
  value = warp_max(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0)
    partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  A largest = partial[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / kWarp; ++warp) {
    largest = partial[warp] > largest || partial[warp] != partial[warp] ? partial[warp] : largest;
  }
  return largest;
}

}  // namespace hew::kernels
