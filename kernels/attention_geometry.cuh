#pragma once

#include "kernels/attention_sizes.h"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"

namespace hew::kernels::attention {

// Of a thread block.
inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarp;

__device__ inline int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ inline int warp_index() {
  return static_cast<int>(threadIdx.x) / kWarp;
}

/// Sizes of one call on a GPU, and where its rows lie; options.scale > 0.
struct Geometry : AttentionSizes {
  using AttentionSizes::AttentionSizes;

  /// Keys that query i sees; i may lie past the last query.
  __device__ std::int64_t visible(std::int64_t i) const {
    const std::int64_t seen = i + keys - queries + 1;
    return causal && seen < keys ? seen : keys;
  }
  /// First query that sees key j.
  __device__ std::int64_t first_query(std::int64_t j) const {
    const std::int64_t first = j - (keys - queries);
    return causal && first > 0 ? first : 0;
  }
  /// Index of element 0 of row t of head h.
  __device__ std::int64_t query_row(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return ((b * queries + t) * heads + h) * width;
  }
  __device__ std::int64_t key_row(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return ((b * keys + t) * key_heads + h) * width;
  }
  /// Index of query t in lse.
  __device__ std::int64_t statistic(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return (b * heads + h) * queries + t;
  }
  __device__ std::int64_t query_stride() const { return heads * width; }
  __device__ std::int64_t key_stride() const { return key_heads * width; }
};

/// What a thread block works on: rows [begin, begin + rows) of one head. Blocks of a head are
/// neighbours.
struct Place {
  __device__ Place(std::int64_t index, std::int64_t tiles, std::int64_t heads, int rows)
      : batch(index / tiles / heads), head(index / tiles % heads), begin(index % tiles * rows) {}

  std::int64_t batch;
  std::int64_t head;
  std::int64_t begin;
};

/// A kernel with one thread block for every `rows` of `count` rows of each of `heads` heads, which
/// is told how many these are a head.
struct Launch {
  const char* name;
  std::size_t shared_bytes;
  std::int64_t count;
  std::int64_t rows;
  std::int64_t heads;  // of all samples

  template <class Pointers>
  void run(Cuda backend, void (*kernel)(Pointers, Geometry, std::int64_t), const Pointers& at,
           const Geometry& g) const {
    const std::int64_t tiles = ceil_div(count, rows);
    const std::int64_t blocks = tiles * heads;
    if (blocks == 0)
      return;
    cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shared_bytes)),
                "cudaFuncSetAttribute");
    kernel<<<static_cast<unsigned int>(blocks), kThreads, shared_bytes, native(backend)>>>(at, g,
                                                                                           tiles);
    check_launch(name);
  }
};

}  // namespace hew::kernels::attention
