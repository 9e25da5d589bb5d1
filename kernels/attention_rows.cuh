#pragma once

#include <type_traits>

#include "kernels/attention_geometry.cuh"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

/// Where neither cuDNN nor tf32 takes a call: a warp owns a few rows (of queries; of keys in
/// key_gradients_kernel) and walks over tiles of 32 rows of the other side in shared memory, a row
/// a lane. Scores live in registers, and every sum is taken by one thread or one warp in a fixed
/// order.
namespace hew::kernels::attention::rows {

constexpr int kTileRows = kWarp;  // a row a lane
constexpr int kMaxColumns = 8;    // head widths up to 32·kMaxColumns

// Rows a warp owns: as many as leave room in the registers and in 99 KB of shared memory.
template <class A>
inline constexpr int kOwnRows = sizeof(A) == 8 ? 2 : 4;
template <class A>
inline constexpr int kBlockRows = kWarps* kOwnRows<A>;

// Rows of at most 32·columns elements in shared memory, padded with zeros to that width. Tiles have
// one element more a row, so that the lanes of a warp read a column from different banks.
template <int columns>
inline constexpr int kWidth = kWarp* columns;
template <int columns>
inline constexpr int kPitch = kWidth<columns> + 1;

template <class A, int columns>
constexpr std::size_t shared_bytes(int own_arrays) {
  return (own_arrays * kBlockRows<A> * kWidth<columns> + kTileRows * kPitch<columns>)*sizeof(A);
}

// to[row, column] ← from[row·stride + column] for row < rows and column < width, 0 elsewhere in
// [to_rows, 32·columns]. The whole block calls it and sees the result.
template <int to_rows, int columns, int pitch, class D>
__device__ void load_rows(const D* from, std::int64_t stride, std::int64_t rows, int width,
                          ComputeType<D>* to) {
  __syncthreads();  // the readers of what was there are done
  for (int row = warp_index(); row < to_rows; row += kWarps) {
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      const int column = lane_index() + kWarp * c;
      to[row * pitch + column] =
          row < rows && column < width ? widen(from[row * stride + column]) : ComputeType<D>(0);
    }
  }
  __syncthreads();
}

// products[r] ← own[r]·row; own is the warp's [n, 32·columns], row the lane's row of a tile.
template <int columns, int n, class A>
__device__ void multiply_rows(const A* own, const A* row, int width, A (&products)[n]) {
  constexpr int kStep = kPackSize<A>;
#pragma unroll
  for (int r = 0; r < n; ++r) products[r] = 0;
#pragma unroll 4
  for (int d = 0; d < width; d += kStep) {
    A x[kStep];
#pragma unroll
    for (int i = 0; i < kStep; ++i) x[i] = row[d + i];
#pragma unroll
    for (int r = 0; r < n; ++r) {
      A y[kStep];
      load<A, kStep>(own + r * kWidth<columns> + d, y);
#pragma unroll
      for (int i = 0; i < kStep; ++i) products[r] += x[i] * y[i];
    }
  }
}

// sums[r, c] += Σ_j weights[r] of lane j · tile[j, lane + 32·c].
template <int columns, int n, class A>
__device__ void add_weighted_rows(const A* tile, const A (&weights)[n], A (&sums)[n][columns]) {
#pragma unroll 4
  for (int j = 0; j < kTileRows; ++j) {
    A weight[n];
#pragma unroll
    for (int r = 0; r < n; ++r) weight[r] = __shfl_sync(0xffffffffU, weights[r], j);
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      const A x = tile[j * kPitch<columns> + lane_index() + kWarp * c];
#pragma unroll
      for (int r = 0; r < n; ++r) sums[r][c] += weight[r] * x;
    }
  }
}

// to[lane + 32·c] ← factor·sums[c] within the width.
template <int columns, class D>
__device__ void store_row(D* to, int width, ComputeType<D> factor,
                          const ComputeType<D> (&sums)[columns]) {
#pragma unroll
  for (int c = 0; c < columns; ++c) {
    const int column = lane_index() + kWarp * c;
    if (column < width)
      to[column] = narrow<D>(factor * sums[c]);
  }
}

// Calls body(columns) with the fewest columns of 32 that hold a head, an integral constant.
template <class Body>
void by_columns(std::int64_t width, const Body& body) {
  require<ShapeError>(width <= kWarp * kMaxColumns,
                      "[attention] heads are {} wide, at most {} on a GPU", width,
                      kWarp * kMaxColumns);
  if (width <= kWarp)
    return body(std::integral_constant<int, 1>{});
  if (width <= 2 * kWarp)
    return body(std::integral_constant<int, 2>{});
  if (width <= 4 * kWarp)
    return body(std::integral_constant<int, 4>{});
  return body(std::integral_constant<int, kMaxColumns>{});
}

}  // namespace hew::kernels::attention::rows
