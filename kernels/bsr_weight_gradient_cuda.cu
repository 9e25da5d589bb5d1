#include "kernels/bsr.h"
#include "kernels/bsr_folded_cuda.h"
#include "kernels/bsr_index.cuh"
#include "kernels/bsr_tiles.cuh"
#include "kernels/hopper/bsr_weight_gradient.h"

namespace hew::kernels {
namespace {

using Bf16 = __nv_bfloat16;

// Thread blocks below which the tokens are split further, so that few live blocks fill a GPU; and
// tokens of a split at least. Constants, so that sums are the same on every GPU.
constexpr std::int64_t kWantedThreadBlocks = 512;
constexpr std::int64_t kMinSplit = 256;

// dvalues[p] ← dyᵀ·x at live block p, or its part from one split of the tokens.
template <class D>
struct Gradient {
  const D* dy;
  const D* x;
  std::int64_t tokens;
  BsrIndex index;
  std::int64_t block_rows;
  ComputeType<D>* out;  // [splits, nnzb, b, b]
  std::int64_t splits;
  std::int64_t split;  // tokens of one
  bool add;
  bool packed_dy;
  bool packed_x;
};

// One tile of a live block, over one split of the tokens.
template <class D>
struct GradientTile {
  Window<D> dy;  // all tokens of the split
  Window<D> x;
  ComputeType<D>* out;  // the tile's corner, rows at distance b
  int rows;             // of the tile that lie inside the block
  int cols;
};

// Tiles of one block are neighbours, and so are blocks of one block row.
template <int kEdge, class D>
__device__ GradientTile<D> gradient_tile(const Gradient<D>& g) {
  const std::int64_t b = g.index.block;
  const std::int64_t edges = (b + kEdge - 1) / kEdge;
  const std::int64_t col = blockIdx.x % edges * kEdge;
  const std::int64_t row = blockIdx.x / edges % edges * kEdge;
  const std::int64_t part = blockIdx.x / (edges * edges);
  const std::int64_t p = part % g.index.nnzb;
  const std::int64_t split = part / g.index.nnzb;
  const std::int64_t first = split * g.split;
  const std::int64_t left = g.tokens - first;
  const int count = static_cast<int>(left < 0 ? 0 : left < g.split ? left : g.split);
  const std::int64_t n = block_row_of(g.index.crow, g.block_rows, p) * b + row;
  const std::int64_t k = g.index.col[p] * b + col;
  auto inside = [b](std::int64_t from, std::int64_t end) {
    const std::int64_t most = b - from < kEdge ? b - from : kEdge;
    return static_cast<int>(end < most ? (end < 0 ? 0 : end) : most);
  };
  return {.dy = {.data = g.dy + first * g.index.rows + n,
                 .stride = g.index.rows,
                 .rows = count,
                 .cols = inside(row, g.index.rows - n),
                 .packed = g.packed_dy},
          .x = {.data = g.x + first * g.index.cols + k,
                .stride = g.index.cols,
                .rows = count,
                .cols = inside(col, g.index.cols - k),
                .packed = g.packed_x},
          .out = g.out + (part * b + row) * b + col,
          .rows = inside(row, b),
          .cols = inside(col, b)};
}

// Tokens [from, …) of a window.
template <class D>
__device__ Window<D> from_token(Window<D> window, int from) {
  window.data += from * window.stride;
  window.rows -= from;
  return window;
}

// n neighbours of row i from column j on. Padding is zero whatever was multiplied there: an
// infinity times the other's zero is not.
template <int n, class D>
__device__ void write_sums(const Gradient<D>& g, const GradientTile<D>& tile, int i, int j,
                           const ComputeType<D> (&values)[n]) {
#pragma unroll
  for (int k = 0; k < n; ++k) {
    if (i >= tile.rows || j + k >= tile.cols)
      continue;
    ComputeType<D>* const to = tile.out + i * g.index.block + j + k;
    const bool real = i < tile.dy.cols && j + k < tile.x.cols;
    const ComputeType<D> before = g.add && real ? *to : ComputeType<D>(0);
    *to = real ? before + values[k] : ComputeType<D>(0);
  }
}

// Edge of a tile, tokens of a step, and what one thread makes of the tile.
template <int edge, int depth, int thread_edge>
struct FmaEdge {
  static constexpr int kEdge = edge;
  static constexpr int kDepth = depth;
  static constexpr int kThreadEdge = thread_edge;
  static constexpr int kAcross = edge / thread_edge;
  static constexpr int kThreads = kAcross * kAcross;
};

// Sums in the order of the tokens.
template <class Size, class D>
__global__ __launch_bounds__(Size::kThreads) void gradient_fma_kernel(const Gradient<D> g) {
  using A = ComputeType<D>;
  constexpr int kEdge = Size::kEdge;
  constexpr int kDepth = Size::kDepth;
  constexpr int kOwn = Size::kThreadEdge;
  __shared__ alignas(16) A dys[kDepth][kEdge + kRowPad<A>];
  __shared__ alignas(16) A xs[kDepth][kEdge + kRowPad<A>];
  const GradientTile<D> tile = gradient_tile<kEdge>(g);
  const int tj = static_cast<int>(threadIdx.x) % Size::kAcross * kOwn;
  const int ti = static_cast<int>(threadIdx.x) / Size::kAcross * kOwn;
  A sums[kOwn][kOwn] = {};
  for (int m = 0; m < tile.dy.rows; m += kDepth) {
    const Window<D> dy = from_token(tile.dy, m);
    const Window<D> x = from_token(tile.x, m);
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kDepth * kEdge; i += Size::kThreads) {
      dys[i / kEdge][i % kEdge] = widen(read_pack<1>(dy, i / kEdge, i % kEdge).lane[0]);
      xs[i / kEdge][i % kEdge] = widen(read_pack<1>(x, i / kEdge, i % kEdge).lane[0]);
    }
    __syncthreads();
#pragma unroll 8
    for (int k = 0; k < kDepth; ++k) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < kOwn; ++j) sums[i][j] += dys[k][ti + i] * xs[k][tj + j];
      }
    }
    __syncthreads();  // the tokens are read
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) write_sums(g, tile, ti + i, tj, sums[i]);
}

// Edge of a tile, tokens of a step, and what one warp makes of the tile.
template <int edge, int depth, int warp_rows, int warp_cols>
struct WmmaEdge {
  static constexpr int kEdge = edge;
  static constexpr int kDepth = depth;
  static constexpr int kWarpRows = warp_rows;
  static constexpr int kWarpCols = warp_cols;
  static constexpr int kWarps = edge / warp_rows * (edge / warp_cols);
  static constexpr int kThreads = kWarps * kWarp;
};

template <class Size>
__global__ __launch_bounds__(Size::kThreads) void gradient_wmma_kernel(const Gradient<Bf16> g) {
  constexpr int kEdge = Size::kEdge;
  constexpr int kDepth = Size::kDepth;
  constexpr int kRows = Size::kWarpRows / kFragment;
  constexpr int kCols = Size::kWarpCols / kFragment;
  using Tokens = TileInFlight<kDepth, kEdge, Size::kThreads>;
  constexpr int kStride = Tokens::kStride;
  __shared__ alignas(32) Bf16 dys[kDepth * kStride];
  __shared__ alignas(32) Bf16 xs[kDepth * kStride];
  __shared__ alignas(32) float stage[Size::kWarps * kStageSize];
  const GradientTile<Bf16> tile = gradient_tile<kEdge>(g);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int wj = warp % (kEdge / Size::kWarpCols) * Size::kWarpCols;
  const int wi = warp / (kEdge / Size::kWarpCols) * Size::kWarpRows;

  Sums sums[kRows][kCols];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) wmma::fill_fragment(sums[i][j], 0.0F);
  }
  Tokens dy;
  Tokens x;
  dy.fetch(tile.dy);
  x.fetch(tile.x);
  for (int m = 0; m < tile.dy.rows; m += kDepth) {
    dy.put(dys);
    x.put(xs);
    __syncthreads();
    dy.fetch(from_token(tile.dy, m + kDepth));  // beyond the last token: zeros
    x.fetch(from_token(tile.x, m + kDepth));
#pragma unroll
    for (int k = 0; k < kDepth; k += kFragment) {
      wmma::fragment<wmma::matrix_a, kFragment, kFragment, kFragment, Bf16, wmma::col_major>
          a[kRows];
      wmma::fragment<wmma::matrix_b, kFragment, kFragment, kFragment, Bf16, wmma::row_major>
          b[kCols];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        wmma::load_matrix_sync(a[i], dys + k * kStride + wi + i * kFragment, kStride);
      }
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        wmma::load_matrix_sync(b[j], xs + k * kStride + wj + j * kFragment, kStride);
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kCols; ++j) wmma::mma_sync(sums[i][j], a[i], b[j], sums[i][j]);
      }
    }
    __syncthreads();  // the tokens are read
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) {
      for_each_row_part(
          sums[i][j], stage + warp * kStageSize, [&](int row, int col, const float(&values)[8]) {
            write_sums(g, tile, wi + i * kFragment + row, wj + j * kFragment + col, values);
          });
    }
  }
}

constexpr int kSumThreads = 256;

// dvalues ← Σ of the splits in order, (p, 256 elements of it) a thread block. Padding is zero in
// each split; what dvalues held there is dropped.
template <class A>
__global__ void sum_splits_kernel(const A* partial, A* dvalues, std::int64_t splits, BsrIndex index,
                                  std::int64_t block_rows, bool add) {
  const std::int64_t b = index.block;
  const std::int64_t chunks = (b * b + kSumThreads - 1) / kSumThreads;
  const std::int64_t p = blockIdx.x / chunks;
  const std::int64_t i = blockIdx.x % chunks * kSumThreads + threadIdx.x;
  if (i >= b * b)
    return;
  const std::int64_t at = p * b * b + i;
  const bool real = block_row_of(index.crow, block_rows, p) * b + i / b < index.rows &&
                    index.col[p] * b + i % b < index.cols;
  A sum = add && real ? dvalues[at] : A(0);
#pragma unroll 8
  for (std::int64_t s = 0; s < splits; ++s) sum += partial[s * index.nnzb * b * b + at];
  dvalues[at] = sum;
}

template <class D>
void sum_splits(Cuda backend, const Gradient<D>& g, ComputeType<D>* dvalues, bool add) {
  const std::int64_t b = g.index.block;
  const std::int64_t chunks = ceil_div(b * b, kSumThreads);
  sum_splits_kernel<<<static_cast<unsigned int>(g.index.nnzb * chunks), kSumThreads, 0,
                      native(backend)>>>(g.out, dvalues, g.splits, g.index, g.block_rows, add);
  check_launch("bsr_weight_gradient");
}

// Launches `kernel` over tiles of `edge`, where there are few of them over parts of the tokens.
template <class Size, class D>
void launch(Cuda backend, Gradient<D> g, void (*kernel)(Gradient<D>)) {
  const std::int64_t b = g.index.block;
  const std::int64_t edges = ceil_div(b, Size::kEdge);
  const std::int64_t tiles = g.index.nnzb * edges * edges;
  g.splits = std::clamp<std::int64_t>(ceil_div(kWantedThreadBlocks, tiles), 1,
                                      std::max<std::int64_t>(1, g.tokens / kMinSplit));
  g.split = std::max<std::int64_t>(1, ceil_div(g.tokens, g.splits));
  require<ShapeError>(tiles * g.splits < (std::int64_t{1} << 31), "[bsr] {} tiles of dvalues",
                      tiles);
  const auto grid = static_cast<unsigned int>(tiles * g.splits);
  if (g.splits == 1) {
    kernel<<<grid, Size::kThreads, 0, native(backend)>>>(g);
    return check_launch("bsr_weight_gradient");
  }
  using A = ComputeType<D>;
  const Shape shape{g.splits, g.index.nnzb, b, b};
  Tensor partial = Tensor::empty(shape, kDTypeOf<A>, backend.stream);
  A* const dvalues = g.out;
  const bool add = g.add;
  g.out = partial.data<A>();
  g.add = false;
  kernel<<<grid, Size::kThreads, 0, native(backend)>>>(g);
  check_launch("bsr_weight_gradient");
  sum_splits(backend, g, dvalues, add);
}

template <class Size, class D>
void launch_fma(Cuda backend, const Gradient<D>& g) {
  launch<Size>(backend, g, &gradient_fma_kernel<Size, D>);
}

template <class Size>
void launch_wmma(Cuda backend, const Gradient<Bf16>& g) {
  launch<Size>(backend, g, &gradient_wmma_kernel<Size>);
}

}  // namespace

template <class T>
void bsr_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args) {
  using D = OnDevice<T>;
  const BsrIndex& index = args.index;
  if (index.nnzb == 0)
    return;
  const bool hopper = hopper::takes_weight_gradient(backend, args);
  if (folding_is_cheaper(backend, problem_of(BsrProduct::kWeightGradient, args.x, index, hopper)))
    return bsr_weight_gradient_folded(backend, args);
  if (hopper)
    return hopper::bsr_weight_gradient(backend, args);
  const Gradient<D> g{.dy = elements<T>(args.dy),
                      .x = elements<T>(args.x),
                      .tokens = args.dy.shape[0],
                      .index = index,
                      .block_rows = index.block_rows(),
                      .out = args.dvalues.as<Accumulator<T>>(),
                      .splits = 1,
                      .split = args.dy.shape[0],
                      .add = args.accumulate,
                      .packed_dy = packable(args.dy.data) && index.rows % kPackSize<D> == 0,
                      .packed_x = packable(args.x.data) && index.cols % kPackSize<D> == 0};
  if constexpr (std::is_same_v<D, Bf16>) {
    if (index.block == 16)
      return launch_wmma<WmmaEdge<16, 64, 16, 16>>(backend, g);
    if (index.block == 32)
      return launch_wmma<WmmaEdge<32, 64, 16, 16>>(backend, g);
    if (index.block % kFragment == 0 && index.block < 112)
      return launch_wmma<WmmaEdge<64, 32, 32, 32>>(backend, g);
    if (index.block % kFragment == 0)
      return launch_wmma<WmmaEdge<128, 32, 64, 32>>(backend, g);
  }
  if (index.block == 8)
    return launch_fma<FmaEdge<8, 64, 1>>(backend, g);
  if (index.block == 16)
    return launch_fma<FmaEdge<16, 32, 2>>(backend, g);
  if (index.block <= 32)
    return launch_fma<FmaEdge<32, 32, 4>>(backend, g);
  launch_fma<FmaEdge<64, 16, 4>>(backend, g);
}

template void bsr_weight_gradient<float>(Cuda, const BsrWeightGradientArgs&);
template void bsr_weight_gradient<double>(Cuda, const BsrWeightGradientArgs&);
template void bsr_weight_gradient<BFloat16>(Cuda, const BsrWeightGradientArgs&);

}  // namespace hew::kernels
