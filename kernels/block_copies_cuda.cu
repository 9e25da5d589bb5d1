#include <limits>
#include <type_traits>

#include "kernels/blocks.h"
#include "kernels/bsr_index.cuh"
#include "kernels/launch.cuh"
#include "kernels/vectors.cuh"

/// Blocks between a dense matrix and values [nnzb, b, b]. Bytes are moved, whatever they mean
/// unless they are added: a word is 16 bytes where rows and blocks come in whole ones and lie at
/// multiples of 16, else one element. All columns below are counted in words.
namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 8;    // words that a thread has in flight
constexpr int kResident = 4;  // thread blocks of a multiprocessor, with the registers that leaves
constexpr int kTileWords = kThreads * kUnroll;

// Both matrices, whose rows the words divide.
template <class Word>
struct Operands {
  const Word* from;
  Word* to;
  BsrIndex index;
  int block_words;           // of a row of a block
  std::int64_t dense_words;  // of a row of the dense matrix
};

// A tile is `width` blocks side by side, of a block row of the dense matrix or in the order of the
// values. A thread keeps to one word of their rows and goes down `step` rows at a time, so that it
// asks once where its block is.
struct Tiling {
  std::int64_t tiles;
  int width;      // at most kThreads
  int row_words;  // of a tile, at most kThreads
  int step;
};

struct Place {
  int block;  // of the tile
  int word;   // of a row of the block
  int row;    // the first of the thread's
  bool used;
};

__device__ Place place_in(const Tiling& tiling, int block_words) {
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread / tiling.row_words;
  const int word = thread - row * tiling.row_words;
  const int block = word / block_words;
  return {
      .block = block, .word = word - block * block_words, .row = row, .used = row < tiling.step};
}

// What becomes of a word and of the one that lies where it goes.
struct Replaced {
  static constexpr bool kReads = false;
  static constexpr int kWords = kUnroll;  // in flight
};
template <class D>
struct Added {
  static constexpr bool kReads = true;
  static constexpr int kWords = kUnroll / 2;
  template <class Word>
  __device__ static Word of(Word held, Word there) {
    constexpr int n = sizeof(Word) / sizeof(D);
    D a[n];
    D b[n];
    memcpy(a, &held, sizeof(Word));
    memcpy(b, &there, sizeof(Word));
#pragma unroll
    for (int k = 0; k < n; ++k) a[k] = narrow<D>(widen(a[k]) + widen(b[k]));
    memcpy(&held, a, sizeof(Word));
    return held;
  }
};

// Rows first, first + step, … below `rows` of one column: those below `known` are copied, the
// others become zero, or stay where there are sums.
template <class Result, class Word>
__device__ void copy_column(const Word* from, std::int64_t from_stride, int known, Word* to,
                            std::int64_t to_stride, int rows, int first, int step) {
  constexpr int kWords = Result::kWords;
  from += first * from_stride;
  to += first * to_stride;
  for (int row = first; row < rows; row += kWords * step) {
    Word held[kWords];
#pragma unroll
    for (int u = 0; u < kWords; ++u) {
      held[u] = Word{};
      if (row + u * step < known)
        held[u] = *from;
      from += step * from_stride;
    }
    if constexpr (Result::kReads) {
#pragma unroll
      for (int u = 0; u < kWords; ++u) {
        if (row + u * step < rows)
          held[u] = Result::of(held[u], to[u * step * to_stride]);
      }
    }
#pragma unroll
    for (int u = 0; u < kWords; ++u) {
      if (row + u * step < rows)
        *to = held[u];
      to += step * to_stride;
    }
  }
}

__device__ int rows_of_block(const BsrIndex& index, std::int64_t r) {
  return static_cast<int>(min(index.block, index.rows - r * index.block));
}

// `spans` tiles cover a block row.
template <class Word>
__global__ __launch_bounds__(kThreads, kResident) void scatter_kernel(Operands<Word> o,
                                                                      Tiling tiling,
                                                                      std::int64_t spans) {
  __shared__ std::int32_t live[kThreads];  // of each block of the tile; −1 where it is dead
  const BsrIndex& index = o.index;
  const auto b = static_cast<int>(index.block);
  const Place at = place_in(tiling, o.block_words);
  const int thread = static_cast<int>(threadIdx.x);
  for (std::int64_t tile = blockIdx.x; tile < tiling.tiles; tile += gridDim.x) {
    const std::int64_t r = tile / spans;
    const std::int64_t first = (tile - r * spans) * tiling.width;  // block column
    live[thread] = -1;
    __syncthreads();
    const std::int32_t end = index.crow[r + 1];
    for (std::int32_t p = index.crow[r] + thread; p < end; p += kThreads) {
      const std::int64_t c = index.col[p] - first;
      if (c >= 0 && c < tiling.width)
        live[c] = p;
    }
    __syncthreads();
    const std::int64_t p = live[at.block];
    const std::int64_t word = (first + at.block) * o.block_words + at.word;
    if (at.used && word < o.dense_words) {
      copy_column<Replaced>(o.from + (p < 0 ? 0 : p * b * o.block_words + at.word), o.block_words,
                            p < 0 ? 0 : b, o.to + r * b * o.dense_words + word, o.dense_words,
                            rows_of_block(index, r), at.row, tiling.step);
    }
    __syncthreads();  // before the next tile's blocks are written
  }
}

template <class Result, class Word>
__global__ __launch_bounds__(kThreads, kResident) void gather_kernel(Operands<Word> o,
                                                                     Tiling tiling,
                                                                     std::int64_t block_rows) {
  __shared__ std::int32_t block_row[kThreads];  // of each block of the tile
  const BsrIndex& index = o.index;
  const auto b = static_cast<int>(index.block);
  const Place at = place_in(tiling, o.block_words);
  const int thread = static_cast<int>(threadIdx.x);
  for (std::int64_t tile = blockIdx.x; tile < tiling.tiles; tile += gridDim.x) {
    const std::int64_t first = tile * tiling.width;
    if (thread < tiling.width && first + thread < index.nnzb) {
      block_row[thread] =
          static_cast<std::int32_t>(block_row_of(index.crow, block_rows, first + thread));
    }
    __syncthreads();
    const std::int64_t p = first + at.block;
    if (at.used && p < index.nnzb) {
      const std::int64_t r = block_row[at.block];
      const std::int64_t word = std::int64_t{index.col[p]} * o.block_words + at.word;
      const bool inside = word < o.dense_words;
      copy_column<Result>(o.from + (inside ? r * b * o.dense_words + word : 0), o.dense_words,
                          inside ? rows_of_block(index, r) : 0,
                          o.to + p * b * o.block_words + at.word, o.block_words, b, at.row,
                          tiling.step);
    }
    __syncthreads();  // before the next tile's rows are written
  }
}

// Of `blocks` blocks side by side, as many as give each thread kUnroll words.
Tiling tiling_of(std::int64_t blocks, std::int64_t block, int block_words) {
  const std::int64_t fit = kTileWords / (block * block_words);
  const auto width =
      static_cast<int>(std::clamp<std::int64_t>(std::min(fit, blocks), 1, kThreads / block_words));
  const int row_words = width * block_words;
  return {.tiles = ceil_div(blocks, width),
          .width = width,
          .row_words = row_words,
          .step = kThreads / row_words};
}

unsigned int grid_over(const Tiling& tiling) {
  return static_cast<unsigned int>(
      std::min<std::int64_t>(tiling.tiles, std::numeric_limits<std::int32_t>::max()));
}

template <class Word>
void scatter_words(Cuda backend, const Operands<Word>& o) {
  Tiling tiling = tiling_of(o.index.block_cols(), o.index.block, o.block_words);
  const std::int64_t spans = tiling.tiles;
  tiling.tiles *= o.index.block_rows();
  if (tiling.tiles == 0)
    return;
  scatter_kernel<<<grid_over(tiling), kThreads, 0, native(backend)>>>(o, tiling, spans);
  check_launch("scatter_blocks");
}

template <class Result, class Word>
void gather_words(Cuda backend, const Operands<Word>& o, const char* name) {
  const Tiling tiling = tiling_of(o.index.nnzb, o.index.block, o.block_words);
  if (tiling.tiles == 0)
    return;
  gather_kernel<Result>
      <<<grid_over(tiling), kThreads, 0, native(backend)>>>(o, tiling, o.index.block_rows());
  check_launch(name);
}

// One element as bits.
template <class D>
using Bits =
    std::conditional_t<sizeof(D) == 2, std::uint16_t,
                       std::conditional_t<sizeof(D) == 4, std::uint32_t,
                                          unsigned long long>>;  // NOLINT(google-runtime-int)

// Calls `move` with the operands in the widest words that fit.
template <class D, class Function>
void with_words(const D* from, D* to, const BsrIndex& index, Function move) {
  constexpr int kPack = kPackSize<D>;
  const auto operands = [&]<class Word>(int n) {
    return Operands<Word>{.from = reinterpret_cast<const Word*>(from),
                          .to = reinterpret_cast<Word*>(to),
                          .index = index,
                          .block_words = static_cast<int>(index.block) / n,
                          .dense_words = index.cols / n};
  };
  if (packable(from, to) && index.cols % kPack == 0 && index.block % kPack == 0)
    return move(operands.template operator()<uint4>(kPack));
  move(operands.template operator()<Bits<D>>(1));
}

}  // namespace

template <class T>
void gather_blocks(Cuda backend, const ConstView& dense, const BsrIndex& index,
                   const View& values) {
  with_words(elements<T>(dense), elements<T>(values), index, [&](const auto& operands) {
    gather_words<Replaced>(backend, operands, "gather_blocks");
  });
}

template <class T>
void accumulate_blocks(Cuda backend, const ConstView& dense, const BsrIndex& index,
                       const View& values) {
  with_words(elements<T>(dense), elements<T>(values), index, [&](const auto& operands) {
    gather_words<Added<OnDevice<T>>>(backend, operands, "accumulate_blocks");
  });
}

template <class T>
void scatter_blocks(Cuda backend, const ConstView& values, const BsrIndex& index,
                    const View& dense) {
  with_words(elements<T>(values), elements<T>(dense), index,
             [&](const auto& operands) { scatter_words(backend, operands); });
}

#define HEW_BLOCK_COPIES(T)                                                                 \
  template void gather_blocks<T>(Cuda, const ConstView&, const BsrIndex&, const View&);     \
  template void accumulate_blocks<T>(Cuda, const ConstView&, const BsrIndex&, const View&); \
  template void scatter_blocks<T>(Cuda, const ConstView&, const BsrIndex&, const View&);
HEW_BLOCK_COPIES(float)
HEW_BLOCK_COPIES(double)
HEW_BLOCK_COPIES(BFloat16)
#undef HEW_BLOCK_COPIES

}  // namespace hew::kernels
