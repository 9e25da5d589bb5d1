#include <omp.h>

#include "kernels/bsr.h"
#include "kernels/bsr_endings.h"
#include "kernels/bsr_microkernel_cpu.h"

namespace hew::kernels {
namespace {

// A packed tile of tokens stays in the second-level cache.
constexpr std::int64_t kTileBytes = 608 << 10;
constexpr std::int64_t kMaxPanels = 8;
// The blocks that one run multiplies stay in the first-level cache while all tokens of the tile
// pass.
constexpr std::int64_t kRunBytes = 32 << 10;
// Output columns between two runs of the epilogue, which then finds them in cache.
constexpr std::int64_t kSpanColumns = 512;
// Below this many multiply-adds a team of threads costs more than it brings.
constexpr std::int64_t kParallelWork = 1 << 17;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// out[tokens, width] ← in[tokens, depth]·B for a block-sparse B, blocks as [depth b, output b].
template <class T>
struct Product {
  const T* in;
  std::int64_t tokens;
  std::int64_t depth;
  T* out;
  std::int64_t width;
  std::int64_t block;
  std::int64_t nnzb;
  const T* blocks;
  const std::int32_t* begin;     // [output blocks + 1]
  const std::int32_t* inner;     // [nnzb], depth block of each entry
  const std::int32_t* position;  // [nnzb] or null
  const std::int32_t* uses;      // [depth blocks + 1]: equal neighbours mark a block nobody reads
  const T* bias;                 // padded to whole blocks, or null
};

// How the tokens and the depth are cut.
struct Tiling {
  std::int64_t tokens;        // a tile, whole panels
  std::int64_t depth_blocks;  // a part of the depth
};

// Few tokens at the whole depth read all live blocks once for each tile; more tokens at a part of
// the depth read and write the output once for each further part. Whichever moves fewer bytes a
// token.
template <class T>
Tiling choose_tiling(const Product<T>& p) {
  constexpr auto kElement = static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t kPartCost = 4;  // a read, a write, and short runs
  const std::int64_t blocks = std::max<std::int64_t>(1, ceil_div(p.depth, p.block));
  const std::int64_t panel_block = kPanelRows * p.block * kElement;  // bytes
  const std::int64_t most = std::clamp<std::int64_t>(ceil_div(p.tokens, kPanelRows), 1, kMaxPanels);
  const std::int64_t panels =
      std::clamp<std::int64_t>(kTileBytes / (panel_block * blocks), 1, most);
  const std::int64_t parts =
      ceil_div(blocks, std::clamp<std::int64_t>(kTileBytes / (panel_block * most), 1, blocks));
  const std::int64_t live_bytes = p.nnzb * p.block * p.block * kElement;
  const std::int64_t whole_cost = live_bytes / (panels * kPanelRows);
  const std::int64_t split_cost =
      live_bytes / (most * kPanelRows) + kPartCost * p.width * kElement * (parts - 1);
  if (whole_cost <= split_cost)
    return {panels * kPanelRows, blocks};
  return {most * kPanelRows, ceil_div(blocks, parts)};
}

// One thread's packed tile: tokens [first, first + rows), depth blocks [begin, end).
template <class T>
struct PackedTile {
  T* data;
  std::int64_t first;
  std::int64_t rows;
  std::int64_t begin;
  std::int64_t end;

  std::int64_t panel_size(std::int64_t block) const { return kPanelRows * (end - begin) * block; }
};

// Into panels; blocks of the depth that no live block reads are skipped.
template <class T>
void pack_tokens(const Product<T>& p, const PackedTile<T>& tile) {
  for (std::int64_t i = 0; i < ceil_div(tile.rows, kPanelRows) * kPanelRows; ++i) {
    const T* from = p.in + (tile.first + i) * p.depth;
    T* const panel =
        tile.data + i / kPanelRows * tile.panel_size(p.block) + i % kPanelRows * kGroup;
    for (std::int64_t c = tile.begin; c < tile.end; ++c) {
      if (p.uses[c] == p.uses[c + 1])
        continue;
      T* to = panel + (c - tile.begin) * p.block * kPanelRows;
      std::int64_t k = c * p.block;
      const std::int64_t end = k + p.block;
      const std::int64_t real = i < tile.rows ? std::min(end, p.depth) : k;
      for (; k + kGroup <= real; k += kGroup, to += kGroup * kPanelRows) {
        std::memcpy(to, from + k, kGroup * sizeof(T));
      }
      for (; k < end; k += kGroup, to += kGroup * kPanelRows) {
        for (std::int64_t kk = 0; kk < kGroup; ++kk) {
          to[kk] = k + kk < real ? from[k + kk] : T{0};
        }
      }
    }
  }
}

// Adds a run of blocks to output block g of the tile's tokens.
template <class T>
void multiply_tile(const Product<T>& p, const PackedTile<T>& tile, std::int64_t g,
                   const BlockRun<T>& run, bool add) {
  const std::int64_t panel_size = tile.panel_size(p.block);
  for_each_panel<T>(p.block, [&]<class V, int nv>(std::int64_t column) {
    const std::int64_t col = g * p.block + column;
    if (col >= p.width)
      return;
    for (std::int64_t i = 0; i < tile.rows; i += kTileRows<nv>) {
      multiply_run<V, kTileRows<nv>, nv, T>(
          tile.data + i / kPanelRows * panel_size + i % kPanelRows * kGroup, run, column,
          {.data = p.out + (tile.first + i) * p.width + col,
           .stride = p.width,
           .rows = tile.rows - i,
           .cols = p.width - col,
           .add = add,
           .bias = p.bias == nullptr ? nullptr : p.bias + col});
    }
  });
}

// Output block g of the tile's tokens: all its live blocks within the tile's depth, run by run.
template <class T>
void multiply_block(const Product<T>& p, const PackedTile<T>& tile, std::int64_t g) {
  const std::int64_t most = std::max<std::int64_t>(
      1, kRunBytes / (p.block * p.block * static_cast<std::int64_t>(sizeof(T))));
  const std::int32_t* const last = p.inner + p.begin[g + 1];
  const std::int32_t* const from = std::lower_bound(p.inner + p.begin[g], last, tile.begin);
  const std::int64_t end = std::lower_bound(from, last, tile.end) - p.inner;
  std::int64_t q = from - p.inner;
  bool add = tile.begin > 0;
  while (q < end || !add) {
    const std::int64_t next = std::min(q + most, end);
    multiply_tile(p, tile, g,
                  {.blocks = p.blocks,
                   .inner = p.inner,
                   .position = p.position,
                   .begin = q,
                   .end = next,
                   .block = p.block,
                   .first_inner = tile.begin},
                  add);
    q = next;
    add = true;
  }
}

// finish(first row, rows, first column, columns) is called on each part of the output once it is
// there.
template <class T, class Finish>
void multiply(const Product<T>& p, const Stream& stream, const Finish& finish) {
  const Tiling tiling = choose_tiling(p);
  const std::int64_t tiles = ceil_div(p.tokens, tiling.tokens);
  const std::int64_t depth_blocks = ceil_div(p.depth, p.block);
  const std::int64_t groups = ceil_div(p.width, p.block);
  const std::int64_t work = p.tokens * (p.nnzb * p.block * p.block + p.width);
  const int threads = work > kParallelWork ? omp_get_max_threads() : 1;
  // Few tokens: threads share the output of a tile, at the price of packing it more than once.
  const std::int64_t parts = std::clamp<std::int64_t>(
      ceil_div(std::int64_t{2} * threads, std::max<std::int64_t>(tiles, 1)), 1,
      std::max<std::int64_t>(groups, 1));
  const std::int64_t part = ceil_div(groups, parts);
  const std::int64_t span = std::max<std::int64_t>(1, kSpanColumns / p.block);
  const std::int64_t buffer = tiling.tokens * tiling.depth_blocks * p.block;
  Tensor scratch = Tensor::empty({threads, buffer}, kDTypeOf<T>, stream);
  T* const buffers = scratch.data<T>();
#pragma omp parallel for collapse(2) schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t t = 0; t < tiles; ++t) {
    for (std::int64_t s = 0; s < parts; ++s) {
      PackedTile<T> tile{.data = buffers + omp_get_thread_num() * buffer,
                         .first = t * tiling.tokens,
                         .rows = std::min(tiling.tokens, p.tokens - t * tiling.tokens),
                         .begin = 0,
                         .end = 0};
      const std::int64_t last = std::min(groups, (s + 1) * part);
      do {
        tile.begin = tile.end;
        tile.end = std::min(tile.begin + tiling.depth_blocks, depth_blocks);
        pack_tokens(p, tile);
        for (std::int64_t g0 = s * part; g0 < last; g0 += span) {
          const std::int64_t g1 = std::min(last, g0 + span);
          for (std::int64_t g = g0; g < g1; ++g) multiply_block(p, tile, g);
          if (tile.end < depth_blocks)
            continue;
          finish(tile.first, tile.rows, g0 * p.block,
                 std::min(g1 * p.block, p.width) - g0 * p.block);
        }
      } while (tile.end < depth_blocks);
    }
  }
}

// [nnzb][n][k] → [nnzb][k][n]
template <class T>
Tensor transpose_blocks(const BsrIndex& index, const ConstView& values, const Stream& stream) {
  constexpr std::int64_t kStep = 8;
  const std::int64_t b = index.block;
  Tensor out = Tensor::empty(values.shape, values.dtype, stream);
  T* const to_all = out.data<T>();
#pragma omp parallel for if (index.nnzb * b * b > kParallelWork)
  for (std::int64_t p = 0; p < index.nnzb; ++p) {
    const T* from = values.as<T>() + p * b * b;
    T* to = to_all + p * b * b;
    for (std::int64_t n = 0; n < b; n += kStep) {
      for (std::int64_t k = 0; k < b; ++k) {
        for (std::int64_t i = 0; i < kStep; ++i) to[k * b + n + i] = from[(n + i) * b + k];
      }
    }
  }
  return out;
}

template <class T>
Tensor pad_bias(const ConstView& bias, std::int64_t length, const Stream& stream) {
  Tensor padded = Tensor::zeros({length}, kDTypeOf<T>, stream);
  std::copy_n(bias.as<T>(), bias.numel(), padded.data<T>());
  return padded;
}

}  // namespace

template <class T>
void bsr_forward(Cpu backend, const BsrForwardArgs& args) {
  const BsrIndex& index = args.index;
  const Tensor blocks = transpose_blocks<T>(index, args.values, backend.stream);
  Tensor bias;
  if (args.bias)
    bias = pad_bias<T>(args.bias, index.block_rows() * index.block, backend.stream);
  const bool activated = args.activation != Activation::kNone;
  const View product_view = (activated || args.gate) && args.pre ? args.pre : args.y;
  T* const pre = product_view.as<T>();
  T* const y = args.y.as<T>();
  const Product<T> product{.in = args.x.as<T>(),
                           .tokens = args.x.shape[0],
                           .depth = index.cols,
                           .out = pre,
                           .width = index.rows,
                           .block = index.block,
                           .nnzb = index.nnzb,
                           .blocks = blocks.data<T>(),
                           .begin = index.crow,
                           .inner = index.col,
                           .position = nullptr,
                           .uses = index.ccol,
                           .bias = bias ? bias.data<T>() : nullptr};
  multiply(product, backend.stream,
           [&](std::int64_t first, std::int64_t rows, std::int64_t col, std::int64_t cols) {
             if (!activated)
               return;
             for (std::int64_t i = first; i < first + rows; ++i) {
               const std::int64_t at = i * index.rows + col;
               apply_activation(args.activation, pre + at, y + at, cols);
             }
           });
  end_forward<T>(backend, args, product_view);
}

template <class T>
void bsr_input_gradient(Cpu backend, const BsrInputGradientArgs& args) {
  const BsrIndex& index = args.index;
  const Product<T> product{.in = args.dy.as<T>(),
                           .tokens = args.dy.shape[0],
                           .depth = index.rows,
                           .out = args.dx.as<T>(),
                           .width = index.cols,
                           .block = index.block,
                           .nnzb = index.nnzb,
                           .blocks = args.values.as<T>(),
                           .begin = index.ccol,
                           .inner = index.row,
                           .position = index.position,
                           .uses = index.crow,
                           .bias = nullptr};
  multiply(product, backend.stream, [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
  end_input_gradient<T>(backend, args);
}

#define HEW_INSTANTIATE(T)                                  \
  template void bsr_forward<T>(Cpu, const BsrForwardArgs&); \
  template void bsr_input_gradient<T>(Cpu, const BsrInputGradientArgs&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
