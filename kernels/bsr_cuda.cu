#include "kernels/activation_math.cuh"
#include "kernels/bsr.h"
#include "kernels/bsr_endings.h"
#include "kernels/bsr_folded_cuda.h"
#include "kernels/bsr_tiles.cuh"
#include "kernels/hopper/bsr_product.h"

namespace hew::kernels {
namespace {

using Bf16 = __nv_bfloat16;

// out[tokens, width] ← act(in[tokens, depth]·B + bias) for a block-sparse B. Output block g has the
// entries [begin[g], begin[g + 1]), each with a block of the depth.
template <class D>
struct Product {
  const D* in;
  std::int64_t tokens;
  std::int64_t depth;
  D* out;
  D* pre;  // or null
  std::int64_t width;
  int block;
  const D* blocks;
  const std::int32_t* begin;     // [output blocks + 1]
  const std::int32_t* inner;     // [nnzb]
  const std::int32_t* position;  // [nnzb] or null
  const D* bias;                 // [width] or null
  Activation activation;
  bool packed_in;
  bool packed_out;
};

// Which tile of the output a thread block makes: tokens from `first` on, columns [col, col + kN) of
// output block g.
struct Tile {
  std::int64_t first;
  std::int64_t g;
  int col;
};

// Tiles of the same tokens are neighbours, and find those in the second-level cache.
template <int kM, int kN, class D>
__device__ Tile tile_of(const Product<D>& p) {
  const int parts = (p.block + kN - 1) / kN;
  const auto across = static_cast<unsigned int>((p.width + p.block - 1) / p.block * parts);
  const unsigned int at = blockIdx.x % across;
  return {.first = static_cast<std::int64_t>(blockIdx.x / across) * kM,
          .g = at / parts,
          .col = static_cast<int>(at % parts) * kN};
}

// An entry of the tile's output block and a part of that block's depth.
template <int kDepth>
struct Cursor {
  std::int64_t entry;
  int depth = 0;
  __device__ void advance(int block) {
    depth += kDepth;
    if (depth >= block) {
      depth = 0;
      ++entry;
    }
  }
};

__device__ int at_most(std::int64_t value, int most) {
  return value < most ? static_cast<int>(value) : most;
}

// x of the tile's tokens at the cursor's depth: what there is of kM × kDepth.
template <int kM, int kDepth, class D>
__device__ Window<D> input_window(const Product<D>& p, const Tile& tile,
                                  const Cursor<kDepth>& cursor) {
  const std::int64_t at = static_cast<std::int64_t>(p.inner[cursor.entry]) * p.block + cursor.depth;
  const int real = at_most(p.depth - at, p.block - cursor.depth);
  return {.data = p.in + tile.first * p.depth + at,
          .stride = p.depth,
          .rows = at_most(p.tokens - tile.first, kM),
          .cols = real < kDepth ? real : kDepth,
          .packed = p.packed_in};
}

// The cursor's block: as [output kN, depth kDepth] in the forward product, whose blocks are Wᵀ's,
// as [depth, output] in the gradient of the input.
template <bool kForward, int kN, int kDepth, class D>
__device__ Window<D> block_window(const Product<D>& p, const Tile& tile,
                                  const Cursor<kDepth>& cursor) {
  const int b = p.block;
  const std::int64_t at = p.position == nullptr ? cursor.entry : p.position[cursor.entry];
  const int outputs = b - tile.col < kN ? b - tile.col : kN;
  const int depths = b - cursor.depth < kDepth ? b - cursor.depth : kDepth;
  const int row = kForward ? tile.col : cursor.depth;
  const int col = kForward ? cursor.depth : tile.col;
  return {.data = p.blocks + at * b * b + row * b + col,
          .stride = b,
          .rows = kForward ? outputs : depths,
          .cols = kForward ? depths : outputs,
          .packed = true};
}

// A choice at run time: it costs an epilogue nothing, and one kernel for each would be many.
template <class D>
__device__ ComputeType<D> activate(Activation activation, ComputeType<D> x) {
  switch (activation) {
    case Activation::kRelu:
      return activated<Activation::kRelu, D>(x);
    case Activation::kGelu:
      return activated<Activation::kGelu, D>(x);
    case Activation::kGeluTanh:
      return activated<Activation::kGeluTanh, D>(x);
    case Activation::kSilu:
      return activated<Activation::kSilu, D>(x);
    case Activation::kNone:
      break;
  }
  return x;
}

// n neighbours of token m, from column `col` of output block g on.
template <int n, class D>
__device__ void finish(const Product<D>& p, std::int64_t m, std::int64_t g, int col,
                       ComputeType<D> (&values)[n]) {
  const std::int64_t column = g * p.block + col;
  if (m >= p.tokens || col >= p.block || column >= p.width)
    return;
  const std::int64_t at = m * p.width + column;
  if (p.bias != nullptr) {
#pragma unroll
    for (int k = 0; k < n; ++k) {
      if (column + k < p.width)
        values[k] += widen(p.bias[column + k]);
    }
  }
  ComputeType<D> result[n];
#pragma unroll
  for (int k = 0; k < n; ++k) result[k] = activate<D>(p.activation, values[k]);
  if (p.packed_out) {
    store<D, n>(p.out + at, result);
    if (p.pre != nullptr)
      store<D, n>(p.pre + at, values);
    return;
  }
#pragma unroll
  for (int k = 0; k < n; ++k) {
    if (column + k >= p.width)
      continue;
    p.out[at + k] = narrow<D>(result[k]);
    if (p.pre != nullptr)
      p.pre[at + k] = narrow<D>(values[k]);
  }
}

// Tokens × outputs of a tile, the depth of a step, and what one thread makes of the tile.
template <int m, int n, int depth, int thread_m, int thread_n>
struct FmaTile {
  static constexpr int kM = m;
  static constexpr int kN = n;
  static constexpr int kDepth = depth;
  static constexpr int kThreadM = thread_m;
  static constexpr int kThreadN = thread_n;
  static constexpr int kThreads = m / thread_m * (n / thread_n);
};

// Sums in the order of the depth.
template <bool kForward, class Size, class D>
__global__ __launch_bounds__(Size::kThreads) void product_fma_kernel(const Product<D> p) {
  using A = ComputeType<D>;
  constexpr int kM = Size::kM;
  constexpr int kN = Size::kN;
  constexpr int kDepth = Size::kDepth;
  __shared__ alignas(16) A xs[kDepth][kM + kRowPad<A>];
  __shared__ alignas(16) A ws[kDepth][kN + kRowPad<A>];
  const Tile tile = tile_of<kM, kN>(p);
  const int tn = static_cast<int>(threadIdx.x) % (kN / Size::kThreadN) * Size::kThreadN;
  const int tm = static_cast<int>(threadIdx.x) / (kN / Size::kThreadN) * Size::kThreadM;
  A sums[Size::kThreadM][Size::kThreadN] = {};
  const std::int64_t end = p.begin[tile.g + 1];
  for (Cursor<kDepth> cursor{.entry = p.begin[tile.g]}; cursor.entry < end;
       cursor.advance(p.block)) {
    const Window<D> x = input_window<kM>(p, tile, cursor);
    const Window<D> w = block_window<kForward, kN>(p, tile, cursor);
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kM * kDepth; i += Size::kThreads) {
      xs[i % kDepth][i / kDepth] = widen(read_pack<1>(x, i / kDepth, i % kDepth).lane[0]);
    }
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kN * kDepth; i += Size::kThreads) {
      if constexpr (kForward) {
        ws[i % kDepth][i / kDepth] = widen(read_pack<1>(w, i / kDepth, i % kDepth).lane[0]);
      } else {
        ws[i / kN][i % kN] = widen(read_pack<1>(w, i / kN, i % kN).lane[0]);
      }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
#pragma unroll
      for (int i = 0; i < Size::kThreadM; ++i) {
#pragma unroll
        for (int j = 0; j < Size::kThreadN; ++j) sums[i][j] += xs[k][tm + i] * ws[k][tn + j];
      }
    }
    __syncthreads();  // the tile is read
  }
#pragma unroll
  for (int i = 0; i < Size::kThreadM; ++i) {
    finish(p, tile.first + tm + i, tile.g, tile.col + tn, sums[i]);
  }
}

// Tokens × outputs of a tile, the depth of a step, and what one warp makes of the tile.
template <int m, int n, int depth, int warp_m, int warp_n>
struct WmmaTile {
  static constexpr int kM = m;
  static constexpr int kN = n;
  static constexpr int kDepth = depth;
  static constexpr int kWarpM = warp_m;
  static constexpr int kWarpN = warp_n;
  static constexpr int kWarps = m / warp_m * (n / warp_n);
  static constexpr int kThreads = kWarps * kWarp;
};

template <bool kForward, class Size>
__global__ __launch_bounds__(Size::kThreads) void product_wmma_kernel(const Product<Bf16> p) {
  constexpr int kM = Size::kM;
  constexpr int kN = Size::kN;
  constexpr int kDepth = Size::kDepth;
  constexpr int kRows = Size::kWarpM / kFragment;
  constexpr int kCols = Size::kWarpN / kFragment;
  using X = TileInFlight<kM, kDepth, Size::kThreads>;
  using W = TileInFlight<kForward ? kN : kDepth, kForward ? kDepth : kN, Size::kThreads>;
  using WLayout = std::conditional_t<kForward, wmma::col_major, wmma::row_major>;
  __shared__ alignas(32) Bf16 xs[kM * X::kStride];
  __shared__ alignas(32) Bf16 ws[(kForward ? kN : kDepth) * W::kStride];
  __shared__ alignas(32) float stage[Size::kWarps * kStageSize];
  const Tile tile = tile_of<kM, kN>(p);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int wn = warp % (kN / Size::kWarpN) * Size::kWarpN;
  const int wm = warp / (kN / Size::kWarpN) * Size::kWarpM;

  Sums sums[kRows][kCols];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) wmma::fill_fragment(sums[i][j], 0.0F);
  }
  X x;
  W w;
  Cursor<kDepth> cursor{.entry = p.begin[tile.g]};
  const std::int64_t end = p.begin[tile.g + 1];
  auto fetch = [&] {
    if (cursor.entry >= end)
      return;
    x.fetch(input_window<kM>(p, tile, cursor));
    w.fetch(block_window<kForward, kN>(p, tile, cursor));
  };
  fetch();
  while (cursor.entry < end) {
    x.put(xs);
    w.put(ws);
    __syncthreads();
    cursor.advance(p.block);
    fetch();
#pragma unroll
    for (int k = 0; k < kDepth; k += kFragment) {
      wmma::fragment<wmma::matrix_a, kFragment, kFragment, kFragment, Bf16, wmma::row_major>
          a[kRows];
      wmma::fragment<wmma::matrix_b, kFragment, kFragment, kFragment, Bf16, WLayout> b[kCols];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        wmma::load_matrix_sync(a[i], xs + (wm + i * kFragment) * X::kStride + k, X::kStride);
      }
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        const int n = wn + j * kFragment;
        wmma::load_matrix_sync(b[j], ws + (kForward ? n * W::kStride + k : k * W::kStride + n),
                               W::kStride);
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kCols; ++j) wmma::mma_sync(sums[i][j], a[i], b[j], sums[i][j]);
      }
    }
    __syncthreads();  // the tile is read
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) {
      for_each_row_part(sums[i][j], stage + warp * kStageSize,
                        [&](int row, int col, float(&values)[8]) {
                          finish(p, tile.first + wm + i * kFragment + row, tile.g,
                                 tile.col + wn + j * kFragment + col, values);
                        });
    }
  }
}

template <class Size, class D>
unsigned int tiles_of(const Product<D>& p) {
  const std::int64_t tiles =
      ceil_div(p.tokens, Size::kM) * ceil_div(p.width, p.block) * ceil_div(p.block, Size::kN);
  require<ShapeError>(tiles < (std::int64_t{1} << 31), "[bsr] {} tiles of output", tiles);
  return static_cast<unsigned int>(tiles);
}

template <bool kForward, class Size, class D>
void launch_fma(Cuda backend, Product<D> p) {
  p.packed_out = p.packed_out && p.width % Size::kThreadN == 0;
  product_fma_kernel<kForward, Size><<<tiles_of<Size>(p), Size::kThreads, 0, native(backend)>>>(p);
  check_launch("bsr product");
}

template <bool kForward, class Size>
void launch_wmma(Cuda backend, const Product<Bf16>& p) {
  product_wmma_kernel<kForward, Size><<<tiles_of<Size>(p), Size::kThreads, 0, native(backend)>>>(p);
  check_launch("bsr product");
}

template <bool kForward, class D>
void multiply(Cuda backend, Product<D> p) {
  if (p.tokens == 0 || p.width == 0)
    return;
  p.packed_in = packable(p.in, p.blocks) && p.depth % kPackSize<D> == 0;
  p.packed_out = packable(p.out, p.pre) && p.width % kPackSize<D> == 0;
  if constexpr (std::is_same_v<D, Bf16>) {
    if (p.block % kFragment == 0 && packable(p.blocks)) {
      if (p.block == 16)
        return launch_wmma<kForward, WmmaTile<128, 16, 16, 32, 16>>(backend, p);
      if (p.block == 32)
        return launch_wmma<kForward, WmmaTile<128, 32, 32, 32, 32>>(backend, p);
      if (p.block < 112)
        return launch_wmma<kForward, WmmaTile<128, 64, 32, 32, 32>>(backend, p);
      return launch_wmma<kForward, WmmaTile<128, 128, 32, 64, 32>>(backend, p);
    }
  }
  if (p.block == 8)
    return launch_fma<kForward, FmaTile<128, 8, 8, 4, 2>>(backend, p);
  if (p.block == 16)
    return launch_fma<kForward, FmaTile<128, 16, 16, 4, 4>>(backend, p);
  if (p.block <= 32)
    return launch_fma<kForward, FmaTile<64, 32, 16, 4, 4>>(backend, p);
  launch_fma<kForward, FmaTile<64, 64, 16, 4, 4>>(backend, p);
}

}  // namespace

template <class T>
void bsr_forward(Cuda backend, const BsrForwardArgs& args) {
  const BsrIndex& index = args.index;
  const bool hopper = hopper::takes(backend, args);
  if (folding_is_cheaper(backend, problem_of(BsrProduct::kForward, args.x, index, hopper)))
    return bsr_forward_folded(backend, args);
  if (hopper)
    return hopper::bsr_forward(backend, args);
  multiply</*kForward=*/true>(backend, Product<OnDevice<T>>{.in = elements<T>(args.x),
                                                            .tokens = args.x.shape[0],
                                                            .depth = index.cols,
                                                            .out = elements<T>(args.y),
                                                            .pre = elements<T>(args.pre),
                                                            .width = index.rows,
                                                            .block = static_cast<int>(index.block),
                                                            .blocks = elements<T>(args.values),
                                                            .begin = index.crow,
                                                            .inner = index.col,
                                                            .position = nullptr,
                                                            .bias = elements<T>(args.bias),
                                                            .activation = args.activation});
  end_forward<T>(backend, args, args.y);
}

template <class T>
void bsr_input_gradient(Cuda backend, const BsrInputGradientArgs& args) {
  const BsrIndex& index = args.index;
  const bool hopper = hopper::takes(backend, args);
  if (folding_is_cheaper(backend, problem_of(BsrProduct::kInputGradient, args.dy, index, hopper)))
    return bsr_input_gradient_folded(backend, args);
  if (hopper)
    return hopper::bsr_input_gradient(backend, args);
  multiply</*kForward=*/false>(backend, Product<OnDevice<T>>{.in = elements<T>(args.dy),
                                                             .tokens = args.dy.shape[0],
                                                             .depth = index.rows,
                                                             .out = elements<T>(args.dx),
                                                             .pre = nullptr,
                                                             .width = index.cols,
                                                             .block = static_cast<int>(index.block),
                                                             .blocks = elements<T>(args.values),
                                                             .begin = index.ccol,
                                                             .inner = index.row,
                                                             .position = index.position,
                                                             .bias = nullptr,
                                                             .activation = Activation::kNone});
  end_input_gradient<T>(backend, args);
}

#define HEW_BSR(T)                                           \
  template void bsr_forward<T>(Cuda, const BsrForwardArgs&); \
  template void bsr_input_gradient<T>(Cuda, const BsrInputGradientArgs&);
HEW_BSR(float)
HEW_BSR(double)
HEW_BSR(BFloat16)
#undef HEW_BSR

}  // namespace hew::kernels
