#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/bsr_vector_cpu.h"

namespace hew::kernels {

// Tokens of an activation matrix are packed in panels of kPanelRows, each panel as
// [depth / kGroup][kPanelRows][kGroup]: copied without a shuffle, and read by a kernel with
// constant offsets from one pointer.
inline constexpr std::int64_t kPanelRows = 24;
inline constexpr std::int64_t kGroup = 8;

// Accumulators of a register tile. Under a sanitizer every access becomes a branch and a call, and
// a full tile, unrolled, takes the compiler minutes.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr int kAccumulators = 4;
#else
inline constexpr int kAccumulators = kVectorRegisters == 32 ? 24 : 12;
#endif

/// Rows of a register tile of nv vectors; divides kPanelRows.
template <int nv>
inline constexpr int kTileRows = kAccumulators / nv;

/// Some live blocks of one block row (column) of a matrix: the products that an output tile sums.
template <class T>
struct BlockRun {
  const T* blocks;               // [nnzb, depth b, output b]
  const std::int32_t* inner;     // block of the depth that each entry multiplies
  const std::int32_t* position;  // where in blocks it lies; null for its own number
  std::int64_t begin;
  std::int64_t end;
  std::int64_t block;
  std::int64_t first_inner;  // block of the depth that the packed panel starts with
};

/// Where a register tile lies in a row-major matrix.
template <class T>
struct TileTarget {
  T* data;
  std::int64_t stride;
  std::int64_t rows;  // of the tile, how many exist
  std::int64_t cols;
  bool add;       // to what is there; else to the bias
  const T* bias;  // of these columns, padded to whole vectors; may be null
};

template <class V, int rows, int nv, class T>
[[gnu::always_inline]] inline void load_tile(typename V::Type (&acc)[rows][nv],
                                             const TileTarget<T>& to) {
  constexpr int kLanes = V::kWidth;
  if (!to.add) {
    unroll<nv>([&](auto v) __attribute__((always_inline)) {
      typename V::Type bias = {};
      if (to.bias != nullptr)
        bias = V::load(to.bias + v * kLanes);
      unroll<rows>([&](auto i) __attribute__((always_inline)) { acc[i][v] = bias; });
    });
    return;
  }
  if (to.rows >= rows && to.cols >= nv * kLanes) {
    unroll<rows>([&](auto i) __attribute__((always_inline)) {
      unroll<nv>([&](auto v) __attribute__((always_inline)) {
        acc[i][v] = V::load(to.data + i * to.stride + v * kLanes);
      });
    });
    return;
  }
  std::array<T, static_cast<std::size_t>(rows * nv * kLanes)> tile{};
  const std::int64_t cols = std::min<std::int64_t>(to.cols, nv * kLanes);
  for (std::int64_t i = 0; i < std::min<std::int64_t>(to.rows, rows); ++i) {
    std::copy_n(to.data + i * to.stride, cols, tile.data() + i * nv * kLanes);
  }
  unroll<rows>([&](auto i) __attribute__((always_inline)) {
    unroll<nv>([&](auto v) __attribute__((always_inline)) {
      acc[i][v] = V::load(tile.data() + (i * nv + v) * kLanes);
    });
  });
}

template <class V, int rows, int nv, class T>
[[gnu::always_inline]] inline void store_tile(const typename V::Type (&acc)[rows][nv],
                                              const TileTarget<T>& to) {
  constexpr int kLanes = V::kWidth;
  if (to.rows >= rows && to.cols >= nv * kLanes) {
    unroll<rows>([&](auto i) __attribute__((always_inline)) {
      unroll<nv>([&](auto v) __attribute__((always_inline)) {
        V::store(acc[i][v], to.data + i * to.stride + v * kLanes);
      });
    });
    return;
  }
  std::array<T, static_cast<std::size_t>(rows * nv * kLanes)> tile;
  unroll<rows>([&](auto i) __attribute__((always_inline)) {
    unroll<nv>([&](auto v) __attribute__((always_inline)) {
      V::store(acc[i][v], tile.data() + (i * nv + v) * kLanes);
    });
  });
  const std::int64_t cols = std::min<std::int64_t>(to.cols, nv * kLanes);
  for (std::int64_t i = 0; i < std::min<std::int64_t>(to.rows, rows); ++i) {
    std::copy_n(tile.data() + i * nv * kLanes, cols, to.data + i * to.stride);
  }
}

/// out[rows, nv vectors] ← (add ? out : bias) + Σ over the run's blocks of x[rows, b]·block[b,
/// columns]. `x` is the packed panel from its first of `rows` tokens, `column` the first column in
/// a block. An element is one chain of multiply-adds in the order of the index, however a product
/// is cut into runs and tiles.
template <class V, int rows, int nv, class T>
void multiply_run(const T* x, const BlockRun<T>& run, std::int64_t column,
                  const TileTarget<T>& out) {
  constexpr int kLanes = V::kWidth;
  const std::int64_t b = run.block;
  typename V::Type acc[rows][nv];
  load_tile<V, rows, nv, T>(acc, out);
  for (std::int64_t q = run.begin; q < run.end; ++q) {
    const std::int64_t p = run.position == nullptr ? q : run.position[q];
    const T* w = run.blocks + p * b * b + column;
    const T* in = x + (run.inner[q] - run.first_inner) * b * kPanelRows;
    for (std::int64_t k = 0; k < b; k += kGroup) {
      unroll<kGroup>([&](auto kk) __attribute__((always_inline)) {
        typename V::Type wk[nv];
        unroll<nv>([&](auto v) __attribute__((always_inline)) { wk[v] = V::load(w + v * kLanes); });
        unroll<rows>([&](auto i) __attribute__((always_inline)) {
          const T scalar = in[i * kGroup + kk];
          unroll<nv>([&](auto v) __attribute__((always_inline)) { acc[i][v] += scalar * wk[v]; });
        });
        w += b;
      });
      in += kPanelRows * kGroup;
    }
  }
  store_tile<V, rows, nv, T>(acc, out);
}

/// dw[rows, nv vectors] (row stride b) ← (add ? dw : 0) + Σ_m dy[m, rows]ᵀ·x[m, columns], where dy
/// and x are [tokens, b].
template <class V, int rows, int nv, class T>
void accumulate_outer(const T* dy, const T* x, std::int64_t tokens, std::int64_t b, T* dw,
                      bool add) {
  constexpr int kLanes = V::kWidth;
  typename V::Type acc[rows][nv] = {};
  if (add) {
    unroll<rows>([&](auto i) __attribute__((always_inline)) {
      unroll<nv>([&](auto v) __attribute__((always_inline)) {
        acc[i][v] = V::load(dw + i * b + v * kLanes);
      });
    });
  }
  for (std::int64_t m = 0; m < tokens; ++m) {
    typename V::Type xm[nv];
    unroll<nv>([&](auto v) __attribute__((always_inline)) { xm[v] = V::load(x + v * kLanes); });
    unroll<rows>([&](auto i) __attribute__((always_inline)) {
      unroll<nv>([&](auto v) __attribute__((always_inline)) { acc[i][v] += dy[i] * xm[v]; });
    });
    dy += b;
    x += b;
  }
  unroll<rows>([&](auto i) __attribute__((always_inline)) {
    unroll<nv>([&](auto v) __attribute__((always_inline)) {
      V::store(acc[i][v], dw + i * b + v * kLanes);
    });
  });
}

}  // namespace hew::kernels
