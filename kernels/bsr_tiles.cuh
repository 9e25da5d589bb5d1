#pragma once

#include <mma.h>

#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {

namespace wmma = nvcuda::wmma;

/// Edge of a tensor-core fragment, and elements of one 16-byte access of bfloat16.
inline constexpr int kFragment = 16;
inline constexpr int kBf16Pack = kPackSize<__nv_bfloat16>;
/// Shared rows are longer than a tile's by one access, which spreads them over the banks.
template <class D>
inline constexpr int kRowPad = kPackSize<D>;

/// Part of a row-major matrix; beyond `rows` and `cols` it reads as zero.
template <class D>
struct Window {
  const D* data;
  std::int64_t stride;
  int rows;
  int cols;
  bool packed;  // packs are aligned, and `cols` is a multiple of their size
};

/// n values of row i from column j on, a multiple of n.
template <int n, class D>
__device__ inline Pack<D, n> read_pack(const Window<D>& window, int i, int j) {
  Pack<D, n> pack;
#pragma unroll
  for (int k = 0; k < n; ++k) pack.lane[k] = narrow<D>(ComputeType<D>(0));
  if (i >= window.rows || j >= window.cols)
    return pack;
  const D* from = window.data + i * window.stride + j;
  if (window.packed)
    return *reinterpret_cast<const Pack<D, n>*>(from);
#pragma unroll
  for (int k = 0; k < n; ++k) {
    if (j + k < window.cols)
      pack.lane[k] = from[k];
  }
  return pack;
}

/// A rows × cols tile on its way from device memory through registers into shared memory, so that
/// it travels while the one before it is multiplied.
template <int kRows, int kCols, int kThreads>
struct TileInFlight {
  static constexpr int kRowPacks = kCols / kBf16Pack;
  static constexpr int kPacks = kRows * kRowPacks;
  static constexpr int kEach = (kPacks + kThreads - 1) / kThreads;
  /// Elements from one row in shared memory to the next.
  static constexpr int kStride = kCols + kBf16Pack;

  Pack<__nv_bfloat16, kBf16Pack> held[kEach];

  __device__ void fetch(const Window<__nv_bfloat16>& window) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int pack = e * kThreads + static_cast<int>(threadIdx.x);
      if (kPacks % kThreads == 0 || pack < kPacks) {
        held[e] = read_pack<kBf16Pack>(window, pack / kRowPacks, pack % kRowPacks * kBf16Pack);
      }
    }
  }
  __device__ void put(__nv_bfloat16* shared) const {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int pack = e * kThreads + static_cast<int>(threadIdx.x);
      if (kPacks % kThreads == 0 || pack < kPacks) {
        *reinterpret_cast<Pack<__nv_bfloat16, kBf16Pack>*>(shared + pack / kRowPacks * kStride +
                                                           pack % kRowPacks * kBf16Pack) = held[e];
      }
    }
  }
};

using Sums = wmma::fragment<wmma::accumulator, kFragment, kFragment, kFragment, float>;

/// Rows of a fragment in shared memory, and a warp's part of the staging area.
inline constexpr int kStageStride = kFragment + 4;
inline constexpr int kStageSize = kFragment * kStageStride;

/// body(row, col, values) with 8 neighbours of one row of the fragment in each lane. `stage` is
/// this warp's own.
template <class Body>
__device__ inline void for_each_row_part(const Sums& sums, float* stage, const Body& body) {
  constexpr int kPart = 8;
  wmma::store_matrix_sync(stage, sums, kStageStride, wmma::mem_row_major);
  __syncwarp();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int row = lane / 2;
  const int col = lane % 2 * kPart;
  float values[kPart];
#pragma unroll
  for (int k = 0; k < kPart; ++k) values[k] = stage[row * kStageStride + col + k];
  body(row, col, values);
  __syncwarp();
}

}  // namespace hew::kernels
