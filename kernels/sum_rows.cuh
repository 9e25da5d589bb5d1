#pragma once

#include "kernels/arrivals.cuh"
#include "kernels/launch.cuh"
#include "kernels/partials.cuh"
#include "kernels/vectors.cuh"

/// Column sums.
namespace hew::kernels {

// A block is 32 packs of columns wide and reads kSummedAtOnce rows at a time.
constexpr int kSummedAtOnce = 8;

template <class D>
struct SumRows {
  using A = ComputeType<D>;

  const D* x;  // [outer, inner]
  A* partial;  // [chunks, inner]
  A* y;        // [inner]
  std::int64_t outer;
  std::int64_t inner;
  std::int64_t chunk_rows;
  int* arrivals;  // a counter for each block column; null: y is not made here
};

// What the threads of a block share: sums of each of kSummedAtOnce rows.
template <class A, int n>
using BlockSums = A[kSummedAtOnce][n * kWarp];

// y of the block's columns ← Σ_chunk partial, always in the same order: a thread adds every
// kRows-th chunk for the columns of one 16-byte access.
template <int n, class D>
__device__ void add_chunks(const SumRows<D>& p, BlockSums<ComputeType<D>, n>& sums) {
  using A = ComputeType<D>;
  constexpr int kPack = n == 1 ? 1 : kPackSize<A>;
  constexpr int kAcross = n * kWarp / kPack;
  constexpr int kRows = kWarp * kSummedAtOnce / kAcross;
  static_assert(kRows <= kSummedAtOnce);
  constexpr int kBatch = 8;
  const int thread = static_cast<int>(threadIdx.y) * kWarp + static_cast<int>(threadIdx.x);
  const int across = thread % kAcross * kPack;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kWarp * n;
  const int chunks = static_cast<int>(gridDim.y);
  A sum[kPack] = {};
  if (first + across < p.inner) {
    const A* from = p.partial + first + across;
#pragma unroll kBatch
    for (int chunk = thread / kAcross; chunk < chunks; chunk += kRows) {
      A values[kPack];
      load<A, kPack>(from + chunk * p.inner, values);
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum[k] += values[k];
    }
  }
#pragma unroll
  for (int k = 0; k < kPack; ++k) sums[thread / kAcross][across + k] = sum[k];
  __syncthreads();
  if (thread >= n * kWarp || first + thread >= p.inner)
    return;
  A total = 0;
#pragma unroll
  for (int row = 0; row < kRows; ++row) total += sums[row][thread];
  p.y[first + thread] = total;
}

// partial[chunk, column] ← Σ of the chunk's rows of x, in order. x = column pack, y = chunk. Where
// there are counters, the last block of a column adds up the chunks.
template <int n, class D>
__global__ void __launch_bounds__(kWarp* kSummedAtOnce) sum_rows_kernel(const SumRows<D> p) {
  using A = ComputeType<D>;
  constexpr int kBatch = 4;
  __shared__ BlockSums<A, n> sums;
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x) * n;
  const std::int64_t begin = blockIdx.y * p.chunk_rows;
  const std::int64_t end = begin + p.chunk_rows < p.outer ? begin + p.chunk_rows : p.outer;
  A sum[n] = {};
  if (column < p.inner) {
    std::int64_t row = begin + threadIdx.y;
    const D* from = p.x + row * p.inner + column;
    const std::int64_t step = kSummedAtOnce * p.inner;
    for (; row + (kBatch - 1) * kSummedAtOnce < end; row += kBatch * kSummedAtOnce) {
      Pack<D, n> packs[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b, from += step) {
        packs[b] = *reinterpret_cast<const Pack<D, n>*>(from);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
#pragma unroll
        for (int j = 0; j < n; ++j) sum[j] += widen(packs[b].lane[j]);
      }
    }
    for (; row < end; row += kSummedAtOnce, from += step) {
      const auto pack = *reinterpret_cast<const Pack<D, n>*>(from);
#pragma unroll
      for (int j = 0; j < n; ++j) sum[j] += widen(pack.lane[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < n; ++j) sums[threadIdx.y][j * kWarp + threadIdx.x] = sum[j];
  __syncthreads();
  // Row y of the threads adds up lanes y, y + 8, … of the packs.
  for (int j = static_cast<int>(threadIdx.y); j < n; j += kSummedAtOnce) {
    A total = 0;
#pragma unroll
    for (int y = 0; y < kSummedAtOnce; ++y) total += sums[y][j * kWarp + threadIdx.x];
    if (column < p.inner)
      p.partial[blockIdx.y * p.inner + column + j] = total;
  }
  if (p.arrivals != nullptr && last_to_arrive(p.arrivals + blockIdx.x, static_cast<int>(gridDim.y)))
    add_chunks<n>(p, sums);
}

/// y ← Σ_row x over [outer, inner]. Rows are cut into chunks by the shape alone, so that the result
/// is always the same. Up to kFewChunks of them are added up by the kernel that makes them, which
/// saves a launch.
template <class D>
void sum_rows(Cuda backend, const D* x, ComputeType<D>* y, std::int64_t outer, std::int64_t inner) {
  using A = ComputeType<D>;
  constexpr int kPack = kPackSize<D>;
  constexpr std::int64_t kMinRows = 64;
  constexpr std::int64_t kMaxChunks = 1024;
  constexpr std::int64_t kFewChunks = 128;
  // Where few chunks are enough: with so many blocks, of no more rows than that.
  constexpr std::int64_t kFewBlocks = 512;
  constexpr std::int64_t kFewRows = 32768;
  const bool packs = inner % kPack == 0 && packable(x);
  const std::int64_t across = ceil_div(packs ? inner / kPack : inner, kWarp);
  const bool few = outer <= kFewRows && across * kFewChunks >= kFewBlocks;
  const std::int64_t chunk_rows =
      std::max(kMinRows, ceil_div(outer, few ? kFewChunks : kMaxChunks));
  const std::int64_t chunks = std::max<std::int64_t>(1, ceil_div(outer, chunk_rows));
  const bool here = chunks > 1 && chunks <= kFewChunks;
  Tensor partial = Tensor::empty({chunks == 1 ? 0 : chunks, inner}, kDTypeOf<A>, backend.stream);
  const SumRows<D> args{.x = x,
                        .partial = chunks == 1 ? y : partial.data<A>(),
                        .y = y,
                        .outer = outer,
                        .inner = inner,
                        .chunk_rows = chunk_rows,
                        .arrivals = here ? arrivals_of(backend, across) : nullptr};
  const dim3 grid(static_cast<unsigned int>(across), static_cast<unsigned int>(chunks));
  const dim3 block(kWarp, kSummedAtOnce);
  if (packs)
    sum_rows_kernel<kPack><<<grid, block, 0, native(backend)>>>(args);
  else
    sum_rows_kernel<1><<<grid, block, 0, native(backend)>>>(args);
  check_launch("sum_leading");
  if (chunks > 1 && !here)
    sum_partials<A>(backend, "sum_leading", args.partial, y, chunks, inner, inner);
}

}  // namespace hew::kernels
