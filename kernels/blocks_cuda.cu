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

constexpr int kCopyUnroll = 4;

// A slice is cut into slabs of kCopyUnroll packs a lane.
template <class D, int n>
__global__ __launch_bounds__(kThreads) void move_kernel(const D* values, const std::int64_t* source,
                                                        D* moved, std::int64_t slice, Walk walk,
                                                        std::int64_t slabs) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads / walk.lanes;
  const unsigned int lane = threadIdx.x % walk.lanes;
  for (std::int64_t item =
           (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / walk.lanes;
       item < walk.blocks * slabs; item += stride) {
    const std::int64_t p = item / slabs;
    const std::int64_t from = source[p];
    if (from < 0)
      continue;
    const std::int64_t first = ((item - p * slabs) * kCopyUnroll * walk.lanes + lane) * n;
    Pack<D, n> held[kCopyUnroll];
#pragma unroll
    for (int u = 0; u < kCopyUnroll; ++u) {
      const std::int64_t at = first + std::int64_t{u} * walk.lanes * n;
      if (at < slice)
        held[u] = *reinterpret_cast<const Pack<D, n>*>(values + from * slice + at);
    }
#pragma unroll
    for (int u = 0; u < kCopyUnroll; ++u) {
      const std::int64_t at = first + std::int64_t{u} * walk.lanes * n;
      if (at < slice)
        *reinterpret_cast<Pack<D, n>*>(moved + p * slice + at) = held[u];
    }
  }
}

template <class D, int n>
void launch_moves(Cuda backend, const D* values, const std::int64_t* source, D* moved,
                  std::int64_t count, std::int64_t slice) {
  const Walk walk = walk_over<n>(count, 1, slice, slice);
  const std::int64_t slabs = ceil_div(walk.packs, std::int64_t{walk.lanes} * kCopyUnroll);
  move_kernel<D, n>
      <<<grid_for(backend, count * slabs * walk.lanes, kThreads), kThreads, 0, native(backend)>>>(
          values, source, moved, slice, walk, slabs);
  check_launch("move_blocks");
}

template <class T>
struct Blend {
  const T* x;
  const double* a;
  const T* y;  // or null
  const double* b;
  T* out;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t block;
  std::int64_t columns;  // C
};

// A pack lies within a block.
template <class T, int n>
__global__ __launch_bounds__(kThreads) void blend_kernel(const Blend<T> blend) {
  const std::int64_t row_packs = blend.cols / n;
  const std::int64_t packs = row_packs * blend.rows;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t pack = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       pack < packs; pack += stride) {
    const std::int64_t row = pack / row_packs;
    const std::int64_t col = (pack - row * row_packs) * n;
    const std::int64_t at = row / blend.block * blend.columns + col / blend.block;
    T values[n];
    load<T, n>(blend.x + pack * n, values);
    const auto a = static_cast<T>(blend.a[at]);
#pragma unroll
    for (int i = 0; i < n; ++i) values[i] *= a;
    if (blend.y != nullptr) {
      T others[n];
      load<T, n>(blend.y + pack * n, others);
      const auto b = static_cast<T>(blend.b[at]);
#pragma unroll
      for (int i = 0; i < n; ++i) values[i] += b * others[i];
    }
    store<T, n>(blend.out + pack * n, values);
  }
}

template <class T, int n>
void launch_blend(Cuda backend, const Blend<T>& blend) {
  const unsigned int grid = grid_for(backend, blend.rows * blend.cols / n, kThreads);
  blend_kernel<T, n><<<grid, kThreads, 0, native(backend)>>>(blend);
  check_launch("blend_blocks");
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
void move_blocks(Cuda backend, const ConstView& values, const ConstView& source,
                 const View& moved) {
  using D = OnDevice<T>;
  if (moved.numel() == 0)
    return;
  const std::int64_t count = moved.shape[0];
  const std::int64_t slice = moved.numel() / count;
  const D* from = elements<T>(values);
  D* to = elements<T>(moved);
  if (packable(from, to) && slice % kPackSize<D> == 0) {
    launch_moves<D, kPackSize<D>>(backend, from, source.as<std::int64_t>(), to, count, slice);
  } else {
    launch_moves<D, 1>(backend, from, source.as<std::int64_t>(), to, count, slice);
  }
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

template <class T>
void blend_blocks(Cuda backend, const BlendBlocks& args) {
  if (args.x.numel() == 0)
    return;
  const std::int64_t k = args.x.shape[1];
  const Blend<T> blend{.x = args.x.as<T>(),
                       .a = args.a.as<double>(),
                       .y = args.y.as<T>(),
                       .b = args.b.as<double>(),
                       .out = args.out.as<T>(),
                       .rows = args.x.shape[0],
                       .cols = k,
                       .block = args.block,
                       .columns = args.a.shape[1]};
  if (packable(blend.x, blend.y, blend.out) && k % kPackSize<T> == 0 &&
      args.block % kPackSize<T> == 0) {
    launch_blend<T, kPackSize<T>>(backend, blend);
  } else {
    launch_blend<T, 1>(backend, blend);
  }
}

#define HEW_BLOCKS(T)                                                                      \
  template void block_norms<T>(Cuda, const ConstView&, std::int64_t, const View&);         \
  template void live_block_norms<T>(Cuda, const ConstView&, const BsrIndex&, const View&); \
  template void move_blocks<T>(Cuda, const ConstView&, const ConstView&, const View&);     \
  template void block_dot<T>(Cuda, const ConstView&, const ConstView&, std::int64_t, const View&);
HEW_BLOCKS(float)
HEW_BLOCKS(double)
HEW_BLOCKS(BFloat16)
#undef HEW_BLOCKS
template void blend_blocks<float>(Cuda, const BlendBlocks&);
template void blend_blocks<double>(Cuda, const BlendBlocks&);

}  // namespace hew::kernels
