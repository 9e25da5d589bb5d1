#include <limits>

#include "kernels/dependents.cuh"
#include "kernels/global_norm.h"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/tensor_table.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 16384;  // elements of a block
constexpr int kFinishThreads = 1024;

struct Entry {
  std::int64_t first_chunk;
  const void* data;
  std::int64_t count;
  DType dtype;
  bool packs;  // 16-byte accesses are possible
};

// This thread's share of Σ x² over a chunk. A square of float32 is exact in double.
template <class D>
__device__ inline double squares(const D* x, int size, bool packs) {
  constexpr int kPack = kPackSize<D>;
  const int packed = packs ? size / kPack * kPack : 0;
  double sum = 0;
#pragma unroll 4
  for (int k = static_cast<int>(threadIdx.x) * kPack; k < packed; k += kThreads * kPack) {
    ComputeType<D> value[kPack];
    load<D, kPack>(x + k, value);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const auto wide = static_cast<double>(value[i]);
      sum += wide * wide;
    }
  }
  for (int k = packed + static_cast<int>(threadIdx.x); k < size; k += kThreads) {
    const auto wide = static_cast<double>(widen(x[k]));
    sum += wide * wide;
  }
  return sum;
}

template <class D>
__device__ inline double chunk_squares(const Entry& e, std::int64_t begin, int size) {
  return squares(static_cast<const D*>(e.data) + begin, size, e.packs);
}

// partial[chunk] ← Σ x² over it
__global__ void __launch_bounds__(kThreads)
    chunks_kernel(const Entry* entries, int count, double* partial) {
  const Entry e = entries[owner_of(entries, count, blockIdx.x)];
  const std::int64_t begin = (blockIdx.x - e.first_chunk) * kChunk;
  const int size = e.count - begin < kChunk ? static_cast<int>(e.count - begin) : kChunk;
  double sum = 0;
  if (e.dtype == DType::kFloat32) {
    sum = chunk_squares<float>(e, begin, size);
  } else if (e.dtype == DType::kFloat64) {
    sum = chunk_squares<double>(e, begin, size);
  } else {
    sum = chunk_squares<__nv_bfloat16>(e, begin, size);
  }
  allow_next_kernel();
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0)
    partial[blockIdx.x] = sum;
}

// One block: a warp a gradient, then all of them.
__global__ void __launch_bounds__(kFinishThreads)
    finish_kernel(const Entry* entries, int count, std::int64_t chunks, const double* partial,
                  double max_norm, double* result) {
  __shared__ int bad;
  if (threadIdx.x == 0)
    bad = count;
  __syncthreads();
  await_kernel_before();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < count; i += kFinishThreads / kWarp) {
    const std::int64_t end = i + 1 < count ? entries[i + 1].first_chunk : chunks;
    double sum = 0;
#pragma unroll 16
    for (std::int64_t c = entries[i].first_chunk + lane; c < end; c += kWarp) sum += partial[c];
    sum = warp_sum(sum);
    if (lane == 0) {
      result[kNormFields + i] = sum;
      if (!isfinite(sum))
        atomicMin(&bad, i);
    }
  }
  __syncthreads();
  double total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kFinishThreads) {
    total += result[kNormFields + i];
  }
  total = block_sum<kFinishThreads>(total);
  if (threadIdx.x == 0) {
    const double norm = sqrt(total);
    const double clipped = max_norm / (norm + kNormEpsilon);
    const double scale = max_norm > 0 && clipped < 1 ? clipped : 1.0;
    result[0] = norm;
    result[1] = isfinite(norm) ? scale : nan("");
    result[2] = bad < count ? bad : -1;
  }
}

}  // namespace

void global_norm(Cuda backend, std::span<const ConstView> gradients, double max_norm,
                 const View& result) {
  std::vector<Entry> entries;
  entries.reserve(gradients.size());
  std::int64_t chunks = 0;
  for (const ConstView& g : gradients) {
    entries.push_back({.first_chunk = chunks,
                       .data = g.data,
                       .count = g.numel(),
                       .dtype = g.dtype,
                       .packs = packable(g.data)});
    chunks += ceil_div(g.numel(), kChunk);
  }
  require<ShapeError>(chunks <= std::numeric_limits<int>::max(),
                      "[global_norm] {} chunks are too many", chunks);
  const Tensor table = upload(entries, backend.stream);
  const auto count = static_cast<int>(entries.size());
  Tensor partial = Tensor::empty({chunks}, DType::kFloat64, backend.stream);
  if (chunks > 0) {
    chunks_kernel<<<static_cast<unsigned int>(chunks), kThreads, 0, native(backend)>>>(
        entries_of<Entry>(table), count, partial.data<double>());
    check_launch("global_norm");
  }
  launch_dependent(backend, finish_kernel, dim3(1), kFinishThreads, 0, entries_of<Entry>(table),
                   count, chunks, static_cast<const double*>(partial.data<double>()), max_norm,
                   result.as<double>());
}

}  // namespace hew::kernels
