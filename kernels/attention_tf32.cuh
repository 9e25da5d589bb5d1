#pragma once

#include "kernels/attention_geometry.cuh"
#include "kernels/fast_math.cuh"
#include "kernels/launch.cuh"
#include "kernels/mma_tf32.cuh"
#include "kernels/product_settings.h"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

/// What the kernels of attention in tf32 are made of. A warp owns rows of one side, left operands
/// of mma, and walks over tiles of rows of the other side in shared memory, the right operands:
/// along their columns where scores are made of them, along their rows where weights add them up.
/// Heads are padded with zeros to `width` columns. With g = lane / 4 and t = lane mod 4 a thread
/// holds scores of own rows g and g + 8 and, in every 8 rows of a tile, of rows 2t and 2t + 1.
///
/// Which column, or which row of a tile, is which step of an mma's depth is free if both operands
/// agree, and so is which column of a sum is which column of an mma. So a thread takes four
/// neighbours with one access everywhere, and scores become a left operand where they are.
namespace hew::kernels::attention {

inline constexpr int kBand = 16;  // rows of a left operand
inline constexpr int kStep = 16;  // columns of two mma, of which a thread holds four

__device__ inline float4 rounded(const float4& x) {
  return {round_to_tf32(x.x), round_to_tf32(x.y), round_to_tf32(x.z), round_to_tf32(x.w)};
}

/// d += a·b; the elements of d and `left` are those of multiply_tf32(), in its order.
__device__ inline void multiply(float (&d)[4], const float4& left, float b0, float b1) {
  multiply_tf32(d[0], d[1], d[2], d[3], left.x, left.y, left.z, left.w, b0, b1);
}

/// Over the four threads that share own rows.
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffU, x, 1);
  return x + __shfl_xor_sync(0xffffffffU, x, 2);
}
__device__ inline float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
}

/// Rows of one head from one of them on; what lies past the last row or column reads as 0.
struct Rows {
  const float* data;    // aligned to 16 bytes
  std::int64_t stride;  // a multiple of 4
  int count;
  int width;  // a multiple of 4

  __device__ bool contains(int row, int column) const { return row < count && column < width; }
  /// Four neighbours; column is a multiple of 4.
  __device__ float4 four(int row, int column) const {
    return contains(row, column) ? *reinterpret_cast<const float4*>(data + row * stride + column)
                                 : float4{0, 0, 0, 0};
  }
  /// This thread's left operands of step c of the kBand rows from `row` on.
  __device__ void operands(int row, int c, float4& first, float4& second) const {
    const int column = c * kStep + lane_index() % 4 * 4;
    const float4 upper = rounded(four(row + lane_index() / 4, column));
    const float4 lower = rounded(four(row + lane_index() / 4 + 8, column));
    first = {upper.x, lower.x, upper.y, lower.y};
    second = {upper.z, lower.z, upper.w, lower.w};
  }
};

/// Own rows as left operands, rounded, in registers. Of every kStep columns a thread has those from
/// 4t on, the first two for one mma and the others for the next.
template <int width>
class HeldRows {
 public:
  /// `row` is the first of the warp's kBand rows.
  __device__ void load(const Rows& from, int row) {
#pragma unroll
    for (int c = 0; c < width / kStep; ++c) from.operands(row, c, held_[2 * c], held_[2 * c + 1]);
  }
  /// Of mma `index`, of width / 8.
  __device__ float4 operand(int index) const {
    return held_[index];
  }

 private:
  float4 held_[width / 8];
};

/// The same where registers do not suffice: each thread has slots of shared memory that no other
/// touches.
template <int width>
class StoredRows {
 public:
  static constexpr int kSlots = width / 8 * kThreads;

  StoredRows() = default;
  __device__ explicit StoredRows(float4* slots) : slots_(slots + threadIdx.x) {}
  __device__ void load(const Rows& from, int row) {
#pragma unroll 4
    for (int c = 0; c < width / kStep; ++c)
      from.operands(row, c, slots_[2 * c * kThreads], slots_[(2 * c + 1) * kThreads]);
  }
  __device__ float4 operand(int index) const {
    return slots_[index * kThreads];
  }

 private:
  float4* slots_ = nullptr;
};

/// Begins to write so many bytes of shared memory, with what `from` points to or, unless it is
/// `real`, with zeros.
template <int bytes>
__device__ inline void copy_or_clear(void* to, const void* from, bool real) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(real ? bytes : 0)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from),
                 "n"(bytes), "r"(real ? bytes : 0)
                 : "memory");
  }
}
/// Until this thread's copies have arrived; __syncthreads() makes them seen by others.
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// A tile [rows, width] in shared memory, in chunks of four floats. Within each 32 columns a chunk
/// lies at its index xor swizzle(row): the eight threads that are served at once then find their
/// chunks in different banks, in both of the orders in which tiles are read.
template <int width, int rows>
struct Tile {
  static constexpr int kRowChunks = width / 4;
  static constexpr int kChunks = rows * kRowChunks;
  static constexpr int kBlocks = rows / 8;

  __device__ static int swizzle(int row) { return row / 2 % 4 + row % 2 * 4; }
  __device__ static int place(int row, int chunk) {
    return row * kRowChunks + (chunk ^ swizzle(row));
  }

  /// Begins to copy; kThreads threads call it.
  __device__ static void copy(float4* to, const Rows& from) {
    constexpr int kPass = kThreads / kRowChunks;  // rows at a time
    const int chunk = static_cast<int>(threadIdx.x) % kRowChunks;
    const int first = static_cast<int>(threadIdx.x) / kRowChunks;
    const float* source = from.data + first * from.stride + chunk * 4;
#pragma unroll
    for (int row = first; row < first + rows; row += kPass) {
      const bool real = from.contains(row, chunk * 4);
      copy_or_clear<16>(to + place(row, chunk), real ? source : from.data, real);
      source += kPass * from.stride;
    }
  }
};

/// scores[band] += own[band] · tileᵀ
template <int width, int rows, int bands, class Own>
__device__ void add_scores(const Own (&own)[bands], const float4* tile,
                           float (&scores)[bands][rows / 8][4]) {
  using T = Tile<width, rows>;
  const int g = lane_index() / 4;
  const int t = lane_index() % 4;
  const int from[2] = {T::place(g, t), T::place(g, t + 4)};  // of the even and odd steps
#pragma unroll
  for (int c = 0; c < width / kStep; ++c) {
    float4 right[T::kBlocks];
#pragma unroll
    for (int n = 0; n < T::kBlocks; ++n)
      right[n] = rounded(tile[from[c % 2] + n * 8 * T::kRowChunks + c / 2 * 8]);
#pragma unroll
    for (int side = 0; side < 2; ++side) {
#pragma unroll
      for (int band = 0; band < bands; ++band) {
        const float4 left = own[band].operand(2 * c + side);
#pragma unroll
        for (int n = 0; n < T::kBlocks; ++n)
          multiply(scores[band][n], left, side == 0 ? right[n].x : right[n].z,
                   side == 0 ? right[n].y : right[n].w);
      }
    }
  }
}

/// Sums of rows of tiles for one band. A thread has, of every 32 columns, those from 4t on and
/// those from 16 + 4t on: column e of them is element [0] and [1] of mma e, for own row g, and [2]
/// and [3] for row g + 8.
template <int width>
using RowSums = float[width / 32][4][4];

/// sums[band] += weights[band] · tile, where weights are laid out as scores.
template <int width, int rows, int bands>
__device__ void add_weighted_rows(const float (&weights)[bands][rows / 8][4], const float4* tile,
                                  RowSums<width> (&sums)[bands]) {
  using T = Tile<width, rows>;
  const int g = lane_index() / 4;
  const int t = lane_index() % 4;
  const int chunk = g / 2 + g % 2 * 4;
  const int from[2] = {T::place(2 * t, chunk), T::place(2 * t + 1, chunk)};
#pragma unroll
  for (int j = 0; j < T::kBlocks; ++j) {
    float4 left[bands];
#pragma unroll
    for (int band = 0; band < bands; ++band) {
      const float(&w)[4] = weights[band][j];
      left[band] = rounded({w[0], w[2], w[1], w[3]});
    }
#pragma unroll
    for (int i = 0; i < width / 32; ++i) {
      const float4 even = rounded(tile[from[0] + j * 8 * T::kRowChunks + i * 8]);
      const float4 odd = rounded(tile[from[1] + j * 8 * T::kRowChunks + i * 8]);
#pragma unroll
      for (int band = 0; band < bands; ++band) {
        multiply(sums[band][i][0], left[band], even.x, odd.x);
        multiply(sums[band][i][1], left[band], even.y, odd.y);
        multiply(sums[band][i][2], left[band], even.z, odd.z);
        multiply(sums[band][i][3], left[band], even.w, odd.w);
      }
    }
  }
}

/// Row `half` of a band (0: g, 1: g + 8), times a factor, to a row of `columns` columns.
template <int width>
__device__ void store_row(const RowSums<width>& sums, int half, float factor, float* to,
                          int columns) {
#pragma unroll
  for (int i = 0; i < width / 32; ++i) {
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int column = 32 * i + 16 * side + lane_index() % 4 * 4;
      const int e = 2 * half + side;
      if (column < columns) {
        *reinterpret_cast<float4*>(to + column) =
            make_float4(factor * sums[i][0][e], factor * sums[i][1][e], factor * sums[i][2][e],
                        factor * sums[i][3][e]);
      }
    }
  }
}

/// Whether this stream and these sizes may be computed so.
inline bool allows_tf32(Cuda backend, const Geometry& g) {
  constexpr int kMaxWidth = 128;
  constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;  // in an int, tiles past the end too
  return backend.stream.state->get<ProductSettings>(backend.stream).tf32 && g.width % 8 == 0 &&
         g.width <= kMaxWidth && g.queries <= kMaxRows && g.keys <= kMaxRows;
}

}  // namespace hew::kernels::attention
