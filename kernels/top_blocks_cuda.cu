#include <cub/device/device_radix_sort.cuh>

#include "kernels/launch.cuh"
#include "kernels/top_blocks.h"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;

// Keys in the order of the scores: a negative's bits are turned over, a positive's go above them. A
// zero has no sign, and NaN comes first.
__device__ std::int64_t key_of(double score) {
  if (score != score)
    return INT64_MIN;
  const std::int64_t bits = __double_as_longlong(score + 0.0);  // −0 + 0 = 0
  return bits < 0 ? bits ^ INT64_MAX : bits;
}

__global__ void keys_kernel(const double* scores, std::int64_t* keys, std::int32_t* blocks,
                            std::int64_t n) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n)
    return;
  keys[i] = key_of(scores[i]);
  blocks[i] = static_cast<std::int32_t>(i);
}

// `blocks` is a permutation: every byte of the mask is written.
__global__ void mask_kernel(const std::int32_t* blocks, std::int64_t keep, std::uint8_t* mask,
                            std::int64_t n) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n)
    mask[blocks[i]] = i < keep ? 1 : 0;
}

__global__ void threshold_kernel(const double* scores, double threshold, std::uint8_t* mask,
                                 std::int64_t n) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n)
    mask[i] = scores[i] >= threshold ? 1 : 0;
}

unsigned int grid_over(std::int64_t n) {
  return static_cast<unsigned int>(ceil_div(n, kThreads));
}

}  // namespace

void top_blocks(Cuda backend, const ConstView& scores, std::int64_t keep, const View& mask) {
  const std::int64_t n = scores.numel();
  if (n == 0)
    return;
  require<ShapeError>(n <= INT32_MAX, "[top_blocks] {} blocks", n);
  Tensor keys = Tensor::empty({2, n}, DType::kInt64, backend.stream);
  Tensor blocks = Tensor::empty({2, n}, DType::kInt32, backend.stream);
  auto* const key = keys.data<std::int64_t>();
  auto* const block = blocks.data<std::int32_t>();
  keys_kernel<<<grid_over(n), kThreads, 0, native(backend)>>>(scores.as<double>(), key, block, n);
  check_launch("top_blocks");
  // The sort is stable: equal scores stay in the order of their indices.
  cub::DoubleBuffer<std::int64_t> sorted_keys(key, key + n);
  cub::DoubleBuffer<std::int32_t> sorted(block, block + n);
  auto sort = [&](void* scratch, std::size_t& bytes) {
    cuda::check(cub::DeviceRadixSort::SortPairsDescending(
                    scratch, bytes, sorted_keys, sorted, static_cast<std::int32_t>(n),
                    /*begin_bit=*/0, /*end_bit=*/64, native(backend)),
                "cub::DeviceRadixSort");
  };
  std::size_t bytes = 0;
  sort(nullptr, bytes);
  const auto size = static_cast<std::int64_t>(std::max<std::size_t>(bytes, 1));  // never null
  Tensor scratch = Tensor::empty({size}, DType::kUInt8, backend.stream);
  sort(scratch.data<std::uint8_t>(), bytes);
  mask_kernel<<<grid_over(n), kThreads, 0, native(backend)>>>(sorted.Current(), keep,
                                                              mask.as<std::uint8_t>(), n);
  check_launch("top_blocks");
}

void threshold_blocks(Cuda backend, const ConstView& scores, double threshold, const View& mask) {
  const std::int64_t n = scores.numel();
  if (n == 0)
    return;
  threshold_kernel<<<grid_over(n), kThreads, 0, native(backend)>>>(scores.as<double>(), threshold,
                                                                   mask.as<std::uint8_t>(), n);
  check_launch("threshold_blocks");
}

}  // namespace hew::kernels
