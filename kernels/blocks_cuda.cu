#include "kernels/blocks.h"
#include "kernels/bsr_index.cuh"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;

// Lanes of a warp that share one block: a power of two, no more than the block has packs.
int lanes_for(std::int64_t packs) {
  int lanes = 1;
  while (lanes < kWarp && lanes < packs) lanes *= 2;
  return lanes;
}

// The real part of a block: from `offset` on, rows at distance `stride`.
struct Extent {
  std::int64_t offset;
  std::int64_t stride;
  std::int64_t rows;
  std::int64_t cols;
};

// Block (r, c) of a row-major [rows, cols].
__device__ Extent extent_of(std::int64_t rows, std::int64_t cols, std::int64_t b, std::int64_t r,
                            std::int64_t c) {
  return {.offset = r * b * cols + c * b,
          .stride = cols,
          .rows = rows - r * b < b ? rows - r * b : b,
          .cols = cols - c * b < b ? cols - c * b : b};
}

struct DenseBlocks {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t block;
  std::int64_t columns;  // C
  __device__ Extent operator()(std::int64_t at) const {
    return extent_of(rows, cols, block, at / columns, at % columns);
  }
};

struct LiveBlocks {
  BsrIndex index;
  std::int64_t block_rows;
  __device__ Extent operator()(std::int64_t p) const {
    const std::int64_t b = index.block;
    const std::int64_t r = block_row_of(index.crow, block_rows, p);
    Extent extent = extent_of(index.rows, index.cols, b, r, index.col[p]);
    extent.offset = p * b * b;
    extent.stride = b;
    return extent;
  }
};

// How the lanes go over a block. It depends on b, N, K and the dtype alone, so that equal blocks
// have equal sums wherever they lie.
struct Walk {
  std::int64_t blocks;
  unsigned int packs;      // of a block
  unsigned int row_packs;  // of one row of it
  int lanes;
};

template <int n>
Walk walk_over(std::int64_t blocks, std::int64_t rows, std::int64_t cols, std::int64_t b) {
  const std::int64_t row_packs = ceil_div(std::min(b, cols), n);
  const std::int64_t packs = row_packs * std::min(b, rows);
  return {.blocks = blocks,
          .packs = static_cast<unsigned int>(packs),
          .row_packs = static_cast<unsigned int>(row_packs),
          .lanes = lanes_for(packs)};
}

// n values of row i from column j on, zero beyond the extent; one access where `kPacked`, when
// columns come in whole packs.
template <int n, bool kPacked, class D>
__device__ void load_inside(const D* data, const Extent& extent, std::int64_t i, std::int64_t j,
                            ComputeType<D> (&out)[n]) {
  const D* from = data + extent.offset + i * extent.stride + j;
#pragma unroll
  for (int k = 0; k < n; ++k) out[k] = 0;
  if constexpr (kPacked) {
    if (i < extent.rows && j < extent.cols)
      load<D, n>(from, out);
  } else {
#pragma unroll
    for (int k = 0; k < n; ++k) {
      if (i < extent.rows && j + k < extent.cols)
        out[k] = widen(from[k]);
    }
  }
}

template <class D>
struct SquareTerms {
  static constexpr int kPack = kPackSize<D>;
  const D* x;
  double* norms;
  template <bool kPacked>
  __device__ double term(const Extent& extent, std::int64_t i, std::int64_t j) const {
    ComputeType<D> v[kPack];
    load_inside<kPack, kPacked>(x, extent, i, j, v);
    double sum = 0;
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum += static_cast<double>(v[k]) * static_cast<double>(v[k]);
    return sum;
  }
  __device__ void write(std::int64_t block, const Extent& extent, double sum) const {
    norms[block] = sqrt(sum / static_cast<double>(extent.rows * extent.cols));
  }
};

// G and the dots are of the accumulator of w's dtype D.
template <class D>
struct ProductTerms {
  using A = ComputeType<D>;
  static constexpr int kPack = kPackSize<A>;
  const A* g;
  const D* w;
  A* dots;
  template <bool kPacked>
  __device__ double term(const Extent& extent, std::int64_t i, std::int64_t j) const {
    A u[kPack];
    A v[kPack];
    load_inside<kPack, kPacked>(g, extent, i, j, u);
    load_inside<kPack, kPacked>(w, extent, i, j, v);
    double sum = 0;
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum += static_cast<double>(u[k]) * static_cast<double>(v[k]);
    return sum;
  }
  __device__ void write(std::int64_t block, const Extent& /*extent*/, double sum) const {
    dots[block] = static_cast<A>(sum);
  }
};

// One sum a block, in float64: each lane adds its packs in order, then the lanes are added.
template <bool kPacked, class Terms, class Locate>
__global__ __launch_bounds__(kThreads) void sum_blocks_kernel(Terms terms, Locate locate,
                                                              Walk walk) {
  constexpr unsigned int kUnroll = 4;
  const std::int64_t warp =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * kThreads / kWarp;
  const int share = kWarp / walk.lanes;  // blocks of a warp
  const int lane = static_cast<int>(threadIdx.x) % walk.lanes;
  const int group = static_cast<int>(threadIdx.x) % kWarp / walk.lanes;
  for (std::int64_t first = warp * share; first < walk.blocks; first += warps * share) {
    const std::int64_t block = first + group;
    const bool mine = block < walk.blocks;
    Extent extent{};
    double sum = 0;
    if (mine) {
      extent = locate(block);
      for (unsigned int at = lane; at < walk.packs; at += kUnroll * walk.lanes) {
        double part[kUnroll];
#pragma unroll
        for (unsigned int u = 0; u < kUnroll; ++u) {
          const unsigned int pack = at + u * walk.lanes;
          // Beyond the last pack: a row beyond the last one, which holds zeros.
          const unsigned int i = pack / walk.row_packs;
          const unsigned int j = (pack - i * walk.row_packs) * Terms::kPack;
          part[u] = terms.template term<kPacked>(extent, i, j);
        }
#pragma unroll
        for (unsigned int u = 0; u < kUnroll; ++u) sum += part[u];
      }
    }
    for (int distance = walk.lanes / 2; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(0xffffffffU, sum, distance);
    }
    if (mine && lane == 0)
      terms.write(block, extent, sum);
  }
}

template <class Terms, class Locate>
void sum_blocks(Cuda backend, const char* name, const Terms& terms, const Locate& locate,
                const Walk& walk, bool packed) {
  if (walk.blocks == 0)
    return;
  const unsigned int grid = grid_for(backend, walk.blocks * walk.lanes, kThreads);
  if (packed) {
    sum_blocks_kernel<true><<<grid, kThreads, 0, native(backend)>>>(terms, locate, walk);
  } else {
    sum_blocks_kernel<false><<<grid, kThreads, 0, native(backend)>>>(terms, locate, walk);
  }
  check_launch(name);
}

// What becomes of one block: the target's extent is filled from the source, zero beyond that.
template <class D>
struct Move {
  const D* from;
  std::int64_t from_stride;
  std::int64_t from_rows;
  std::int64_t from_cols;
  D* to;
  std::int64_t to_stride;
  std::int64_t to_rows;
  std::int64_t to_cols;
};

template <class D>
struct Gather {
  const D* dense;
  D* values;
  LiveBlocks live;
  __device__ Move<D> operator()(std::int64_t p) const {
    const std::int64_t b = live.index.block;
    const std::int64_t r = block_row_of(live.index.crow, live.block_rows, p);
    const Extent e = extent_of(live.index.rows, live.index.cols, b, r, live.index.col[p]);
    return {.from = dense + e.offset,
            .from_stride = e.stride,
            .from_rows = e.rows,
            .from_cols = e.cols,
            .to = values + p * b * b,
            .to_stride = b,
            .to_rows = b,
            .to_cols = b};
  }
};

template <class D>
struct Scatter {
  const D* values;
  D* dense;
  BsrIndex index;
  std::int64_t columns;  // C
  __device__ Move<D> operator()(std::int64_t at) const {
    const std::int64_t b = index.block;
    const std::int64_t r = at / columns;
    const std::int64_t c = at - r * columns;
    const std::int64_t p = live_block_at(index.crow, index.col, r, c);
    const Extent e = extent_of(index.rows, index.cols, b, r, c);
    return {.from = values + (p < 0 ? 0 : p * b * b),
            .from_stride = b,
            .from_rows = p < 0 ? 0 : b,
            .from_cols = b,
            .to = dense + e.offset,
            .to_stride = e.stride,
            .to_rows = e.rows,
            .to_cols = e.cols};
  }
};

// Slices as blocks of one row.
template <class D>
struct MoveSlices {
  const D* values;
  const std::int64_t* source;
  D* moved;
  std::int64_t slice;
  __device__ Move<D> operator()(std::int64_t p) const {
    const std::int64_t from = source[p];
    return {.from = values + (from < 0 ? 0 : from * slice),
            .from_stride = slice,
            .from_rows = 1,
            .from_cols = slice,
            .to = moved + p * slice,
            .to_stride = slice,
            .to_rows = from < 0 ? 0 : 1,
            .to_cols = slice};
  }
};

constexpr int kCopyUnroll = 4;

// A block is cut into slabs of kCopyUnroll packs a lane.
template <class D, int n, class Job>
__global__ __launch_bounds__(kThreads) void move_kernel(Job job, Walk walk, std::int64_t slabs) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads / walk.lanes;
  const unsigned int lane = threadIdx.x % walk.lanes;
  for (std::int64_t item =
           (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / walk.lanes;
       item < walk.blocks * slabs; item += stride) {
    const std::int64_t block = item / slabs;
    const auto slab = static_cast<unsigned int>(item - block * slabs);
    const Move<D> move = job(block);
    Pack<D, n> held[kCopyUnroll];
    D* target[kCopyUnroll];
#pragma unroll
    for (int u = 0; u < kCopyUnroll; ++u) {
      const unsigned int pack = (slab * kCopyUnroll + u) * walk.lanes + lane;
      const unsigned int i = pack / walk.row_packs;
      const std::int64_t j = static_cast<std::int64_t>(pack - i * walk.row_packs) * n;
      target[u] = i < move.to_rows && j < move.to_cols ? move.to + i * move.to_stride + j : nullptr;
#pragma unroll
      for (int k = 0; k < n; ++k) held[u].lane[k] = narrow<D>(ComputeType<D>(0));
      if (target[u] != nullptr && i < move.from_rows && j < move.from_cols) {
        held[u] = *reinterpret_cast<const Pack<D, n>*>(move.from + i * move.from_stride + j);
      }
    }
#pragma unroll
    for (int u = 0; u < kCopyUnroll; ++u) {
      if (target[u] != nullptr)
        *reinterpret_cast<Pack<D, n>*>(target[u]) = held[u];
    }
  }
}

template <class D, int n, class Job>
void launch_moves(Cuda backend, const char* name, const Job& job, const Walk& walk) {
  const std::int64_t slabs = ceil_div(walk.packs, std::int64_t{walk.lanes} * kCopyUnroll);
  move_kernel<D, n><<<grid_for(backend, walk.blocks * slabs * walk.lanes, kThreads), kThreads, 0,
                      native(backend)>>>(job, walk, slabs);
  check_launch(name);
}

// `rows` × `cols` is the largest target of a block; with `packed` all columns come in whole packs.
template <class D, class Job>
void move_all(Cuda backend, const char* name, const Job& job, const Shape& targets, bool packed) {
  constexpr int kPack = kPackSize<D>;
  const std::int64_t rows = targets[1];
  const std::int64_t cols = targets[2];
  const std::int64_t b = std::max(rows, cols);
  if (targets.numel() == 0)
    return;
  if (packed) {
    launch_moves<D, kPack>(backend, name, job, walk_over<kPack>(targets[0], rows, cols, b));
  } else {
    launch_moves<D, 1>(backend, name, job, walk_over<1>(targets[0], rows, cols, b));
  }
}

}  // namespace

template <class T>
void block_norms(Cuda backend, const ConstView& dense, std::int64_t block, const View& norms) {
  using Terms = SquareTerms<OnDevice<T>>;
  const std::int64_t n = dense.shape[0];
  const std::int64_t k = dense.shape[1];
  const Terms terms{elements<T>(dense), norms.as<double>()};
  sum_blocks(backend, "block_norms", terms,
             DenseBlocks{.rows = n, .cols = k, .block = block, .columns = norms.shape[1]},
             walk_over<Terms::kPack>(norms.numel(), n, k, block),
             packable(terms.x) && k % Terms::kPack == 0 && block % Terms::kPack == 0);
}

template <class T>
void live_block_norms(Cuda backend, const ConstView& values, const BsrIndex& index,
                      const View& norms) {
  using Terms = SquareTerms<OnDevice<T>>;
  const Terms terms{elements<T>(values), norms.as<double>()};
  sum_blocks(backend, "live_block_norms", terms,
             LiveBlocks{.index = index, .block_rows = index.block_rows()},
             walk_over<Terms::kPack>(index.nnzb, index.rows, index.cols, index.block),
             packable(terms.x) && index.cols % Terms::kPack == 0);
}

template <class T>
void gather_blocks(Cuda backend, const ConstView& dense, const BsrIndex& index,
                   const View& values) {
  using D = OnDevice<T>;
  const Gather<D> job{.dense = elements<T>(dense),
                      .values = elements<T>(values),
                      .live = {.index = index, .block_rows = index.block_rows()}};
  move_all<D>(backend, "gather_blocks", job, values.shape,
              packable(job.dense, job.values) && index.cols % kPackSize<D> == 0);
}

template <class T>
void scatter_blocks(Cuda backend, const ConstView& values, const BsrIndex& index,
                    const View& dense) {
  using D = OnDevice<T>;
  const Scatter<D> job{.values = elements<T>(values),
                       .dense = elements<T>(dense),
                       .index = index,
                       .columns = index.block_cols()};
  move_all<D>(backend, "scatter_blocks", job,
              {index.block_rows() * index.block_cols(), index.block, index.block},
              packable(job.values, job.dense) && index.cols % kPackSize<D> == 0);
}

template <class T>
void move_blocks(Cuda backend, const ConstView& values, const ConstView& source,
                 const View& moved) {
  using D = OnDevice<T>;
  const std::int64_t count = moved.shape[0];
  const std::int64_t slice = count == 0 ? 0 : moved.numel() / count;
  const MoveSlices<D> job{.values = elements<T>(values),
                          .source = source.as<std::int64_t>(),
                          .moved = elements<T>(moved),
                          .slice = slice};
  move_all<D>(backend, "move_blocks", job, {count, 1, slice},
              packable(job.values, job.moved) && slice % kPackSize<D> == 0);
}

template <class T>
void block_dot(Cuda backend, const ConstView& g, const ConstView& w, std::int64_t block,
               const View& dots) {
  using Terms = ProductTerms<OnDevice<T>>;
  const std::int64_t n = g.shape[0];
  const std::int64_t k = g.shape[1];
  const Terms terms{
      .g = g.as<Accumulator<T>>(), .w = elements<T>(w), .dots = dots.as<Accumulator<T>>()};
  sum_blocks(backend, "block_dot", terms,
             DenseBlocks{.rows = n, .cols = k, .block = block, .columns = dots.shape[1]},
             walk_over<Terms::kPack>(dots.numel(), n, k, block),
             packable(terms.g, terms.w) && k % Terms::kPack == 0 && block % Terms::kPack == 0);
}

#define HEW_BLOCKS(T)                                                                      \
  template void block_norms<T>(Cuda, const ConstView&, std::int64_t, const View&);         \
  template void live_block_norms<T>(Cuda, const ConstView&, const BsrIndex&, const View&); \
  template void gather_blocks<T>(Cuda, const ConstView&, const BsrIndex&, const View&);    \
  template void scatter_blocks<T>(Cuda, const ConstView&, const BsrIndex&, const View&);   \
  template void move_blocks<T>(Cuda, const ConstView&, const ConstView&, const View&);     \
  template void block_dot<T>(Cuda, const ConstView&, const ConstView&, std::int64_t, const View&);
HEW_BLOCKS(float)
HEW_BLOCKS(double)
HEW_BLOCKS(BFloat16)
#undef HEW_BLOCKS

}  // namespace hew::kernels
