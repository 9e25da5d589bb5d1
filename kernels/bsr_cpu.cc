#include <omp.h>

#include "kernels/bsr.h"
#include "kernels/bsr_microkernel_cpu.h"

namespace hew::kernels {
namespace {

// A packed tile of tokens stays in the second-level cache beside the blocks that stream past it.
constexpr std::int64_t kTileBytes = 384 << 10;
constexpr std::int64_t kMaxTilePanels = 8;
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

// Tokens [first, first + rows) into panels; blocks of the depth that no live block reads are
// skipped.
template <class T>
void pack_tokens(const Product<T>& p, std::int64_t first, std::int64_t rows, T* packed) {
  const std::int64_t blocks = ceil_div(p.depth, p.block);
  for (std::int64_t i = 0; i < ceil_div(rows, kPanelRows) * kPanelRows; ++i) {
    const T* from = p.in + (first + i) * p.depth;
    T* to = packed + i / kPanelRows * kPanelRows * blocks * p.block + i % kPanelRows * kGroup;
    for (std::int64_t c = 0; c < blocks; ++c) {
      if (p.uses[c] == p.uses[c + 1])
        continue;
      const std::int64_t end = (c + 1) * p.block;
      std::int64_t k = c * p.block;
      if (i < rows) {
        for (; k + kGroup <= std::min(end, p.depth); k += kGroup) {
          std::memcpy(to + k * kPanelRows, from + k, kGroup * sizeof(T));
        }
        for (; k < std::min(end, p.depth); ++k) {
          to[k / kGroup * kGroup * kPanelRows + k % kGroup] = from[k];
        }
      }
      for (; k < end; ++k) to[k / kGroup * kGroup * kPanelRows + k % kGroup] = T{0};
    }
  }
}

// Output block g of the tokens in one packed tile.
template <class T>
void multiply_block(const Product<T>& p, const T* packed, std::int64_t g, std::int64_t first,
                    std::int64_t rows) {
  const std::int64_t padded_depth = ceil_div(p.depth, p.block) * p.block;
  const BlockRun<T> run{.blocks = p.blocks,
                        .inner = p.inner,
                        .position = p.position,
                        .begin = p.begin[g],
                        .end = p.begin[g + 1],
                        .block = p.block};
  for_each_panel<T>(p.block, [&]<class V, int nv>(std::int64_t column) {
    const std::int64_t col = g * p.block + column;
    if (col >= p.width)
      return;
    for (std::int64_t i = 0; i < rows; i += kTileRows<nv>) {
      const T* x = packed + i / kPanelRows * kPanelRows * padded_depth + i % kPanelRows * kGroup;
      multiply_run<V, kTileRows<nv>, nv, T>(x, run, column,
                                            {.data = p.out + (first + i) * p.width + col,
                                             .stride = p.width,
                                             .rows = rows - i,
                                             .cols = p.width - col,
                                             .bias = p.bias == nullptr ? nullptr : p.bias + col});
    }
  });
}

// finish(first row, rows, first column, columns) is called on each part of the output once it is
// there.
template <class T, class Finish>
void multiply(const Product<T>& p, const Stream& stream, const Finish& finish) {
  const std::int64_t padded_depth = ceil_div(p.depth, p.block) * p.block;
  const std::int64_t panel_bytes = kPanelRows * padded_depth * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t panels = std::clamp<std::int64_t>(
      kTileBytes / std::max<std::int64_t>(panel_bytes, 1), 1,
      std::clamp<std::int64_t>(ceil_div(p.tokens, kPanelRows), 1, kMaxTilePanels));
  const std::int64_t tile = panels * kPanelRows;
  const std::int64_t tiles = ceil_div(p.tokens, tile);
  const std::int64_t groups = ceil_div(p.width, p.block);
  const std::int64_t work = p.tokens * (p.nnzb * p.block * p.block + p.width);
  const int threads = work > kParallelWork ? omp_get_max_threads() : 1;
  // Few tokens: threads share the output blocks of a tile, at the price of packing it more than
  // once.
  const std::int64_t parts =
      std::clamp<std::int64_t>(ceil_div(2 * threads, std::max<std::int64_t>(tiles, 1)), 1,
                               std::max<std::int64_t>(groups, 1));
  const std::int64_t part = ceil_div(groups, parts);
  const std::int64_t span = std::max<std::int64_t>(1, kSpanColumns / p.block);
  Tensor scratch = Tensor::empty({threads, tile * padded_depth}, kDTypeOf<T>, stream);
  T* const buffers = scratch.data<T>();
#pragma omp parallel for collapse(2) schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t t = 0; t < tiles; ++t) {
    for (std::int64_t s = 0; s < parts; ++s) {
      T* packed = buffers + omp_get_thread_num() * tile * padded_depth;
      const std::int64_t first = t * tile;
      const std::int64_t rows = std::min(tile, p.tokens - first);
      pack_tokens(p, first, rows, packed);
      const std::int64_t end = std::min(groups, (s + 1) * part);
      for (std::int64_t g0 = s * part; g0 < end; g0 += span) {
        const std::int64_t g1 = std::min(end, g0 + span);
        for (std::int64_t g = g0; g < g1; ++g) multiply_block(p, packed, g, first, rows);
        finish(first, rows, g0 * p.block, std::min(g1 * p.block, p.width) - g0 * p.block);
      }
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
void bsr_forward(Cpu /*backend*/, const BsrForwardArgs& args, const Stream& stream) {
  const BsrIndex& index = args.index;
  const Tensor blocks = transpose_blocks<T>(index, args.values, stream);
  Tensor bias;
  if (args.bias)
    bias = pad_bias<T>(args.bias, index.block_rows() * index.block, stream);
  const bool activated = args.activation != Activation::kNone;
  T* const pre = activated && args.pre ? args.pre.as<T>() : args.y.as<T>();
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
  multiply(product, stream,
           [&](std::int64_t first, std::int64_t rows, std::int64_t col, std::int64_t cols) {
             if (!activated)
               return;
             for (std::int64_t i = first; i < first + rows; ++i) {
               const std::int64_t at = i * index.rows + col;
               apply_activation(args.activation, pre + at, y + at, cols);
             }
           });
}

template <class T>
void bsr_input_gradient(Cpu /*backend*/, const ConstView& dy, const ConstView& values,
                        const BsrIndex& index, const View& dx, const Stream& stream) {
  const Product<T> product{.in = dy.as<T>(),
                           .tokens = dy.shape[0],
                           .depth = index.rows,
                           .out = dx.as<T>(),
                           .width = index.cols,
                           .block = index.block,
                           .nnzb = index.nnzb,
                           .blocks = values.as<T>(),
                           .begin = index.ccol,
                           .inner = index.row,
                           .position = index.position,
                           .uses = index.crow,
                           .bias = nullptr};
  multiply(product, stream, [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
}

#define HEW_INSTANTIATE(T)                                                                      \
  template void bsr_forward<T>(Cpu, const BsrForwardArgs&, const Stream&);                      \
  template void bsr_input_gradient<T>(Cpu, const ConstView&, const ConstView&, const BsrIndex&, \
                                      const View&, const Stream&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
