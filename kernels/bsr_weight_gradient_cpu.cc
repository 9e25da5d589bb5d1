#include <omp.h>

#include "kernels/bsr.h"
#include "kernels/bsr_microkernel_cpu.h"

namespace hew::kernels {
namespace {

// Two [tokens, b] tiles share the first-level cache; the packed tokens of x stay in the second.
constexpr std::int64_t kBlockBytes = 32 << 10;
constexpr std::int64_t kTileBytes = 512 << 10;
constexpr std::int64_t kMinTokens = 16;
// Below this many multiply-adds a team of threads costs more than it brings.
constexpr std::int64_t kParallelWork = 1 << 17;

// Rows of a register tile of nv vectors; a divisor of b = 8·n.
template <int nv>
constexpr int kOuterRows = (kVectorRegisters == 32 ? 16 : 8) / nv;

// Columns [b·c, b·(c+1)) of tokens [first, first + tokens) of a [M, width] matrix as [tokens, b].
template <class T>
void pack_columns(const T* from, std::int64_t width, std::int64_t c, std::int64_t b,
                  std::int64_t tokens, T* to) {
  constexpr std::int64_t kGroupBytes = kGroup * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t cols = std::min(b, width - c * b);
  from += c * b;
  for (std::int64_t m = 0; m < tokens; ++m, from += width, to += b) {
    std::int64_t k = 0;
    for (; k + kGroup <= cols; k += kGroup) std::memcpy(to + k, from + k, kGroupBytes);
    for (; k < b; ++k) to[k] = k < cols ? from[k] : T{0};
  }
}

template <class T>
void accumulate_block(const T* dy, const T* x, std::int64_t tokens, std::int64_t b, T* dw,
                      bool add) {
  for_each_panel<T>(b, [&]<class V, int nv>(std::int64_t column) {
    constexpr int kRows = kOuterRows<nv>;
    std::int64_t n = 0;
    for (; n + kRows <= b; n += kRows) {
      accumulate_outer<V, kRows, nv, T>(dy + n, x + column, tokens, b, dw + n * b + column, add);
    }
    if constexpr (kRows > 8) {
      for (; n < b; n += 8) {
        accumulate_outer<V, 8, nv, T>(dy + n, x + column, tokens, b, dw + n * b + column, add);
      }
    }
  });
}

// Infinity in one operand times the other's padding is not zero.
template <class T>
void clear_padding(const BsrIndex& index, std::int64_t r, std::int64_t c, T* dw) {
  const std::int64_t b = index.block;
  const std::int64_t rows = std::min(b, index.rows - r * b);
  const std::int64_t cols = std::min(b, index.cols - c * b);
  if (cols < b) {
    for (std::int64_t n = 0; n < rows; ++n) std::fill(dw + n * b + cols, dw + (n + 1) * b, T{0});
  }
  std::fill(dw + rows * b, dw + b * b, T{0});
}

// One thread's blocks [begin, end), and its scratch.
template <class T>
struct Share {
  std::int64_t begin;
  std::int64_t end;
  T* x;                  // [C, chunk, b]
  T* dy;                 // [chunk, b]
  std::int32_t* packed;  // [C], the chunk that x holds of this block column, counted from 1
};

template <class T>
void accumulate_share(const BsrWeightGradientArgs& args, std::int64_t chunk,
                      const Share<T>& share) {
  const BsrIndex& index = args.index;
  const std::int64_t b = index.block;
  const std::int64_t tokens = args.dy.shape[0];
  T* const dvalues = args.dvalues.as<T>();
  const std::int64_t first_row =
      std::upper_bound(index.crow, index.crow + index.block_rows() + 1, share.begin) - index.crow -
      1;
  for (std::int64_t m = 0; m < tokens; m += chunk) {
    const std::int64_t count = std::min(chunk, tokens - m);
    const auto stamp = static_cast<std::int32_t>(m / chunk + 1);
    const bool add = args.accumulate || m > 0;
    std::int64_t packed_row = -1;
    std::int64_t r = first_row;
    for (std::int64_t p = share.begin; p < share.end; ++p) {
      while (index.crow[r + 1] <= p) ++r;
      const std::int64_t c = index.col[p];
      T* const x = share.x + c * chunk * b;
      if (packed_row != r) {
        pack_columns(args.dy.as<T>() + m * index.rows, index.rows, r, b, count, share.dy);
        packed_row = r;
      }
      if (share.packed[c] != stamp) {
        pack_columns(args.x.as<T>() + m * index.cols, index.cols, c, b, count, x);
        share.packed[c] = stamp;
      }
      accumulate_block(share.dy, x, count, b, dvalues + p * b * b, add);
      if (m + count == tokens)
        clear_padding(index, r, c, dvalues + p * b * b);
    }
  }
}

}  // namespace

template <class T>
void bsr_weight_gradient(Cpu backend, const BsrWeightGradientArgs& args) {
  const BsrIndex& index = args.index;
  const std::int64_t b = index.block;
  const std::int64_t columns = index.block_cols();
  const std::int64_t tokens = args.dy.shape[0];
  const auto element = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t chunk =
      std::max(kMinTokens, std::min(kBlockBytes / (std::min<std::int64_t>(b, 64) * element),
                                    kTileBytes / std::max<std::int64_t>(1, columns * b * element)));
  if (tokens == 0 && !args.accumulate) {
    std::fill_n(args.dvalues.as<T>(), args.dvalues.numel(), T{0});
  }
  const std::int64_t work = tokens * index.nnzb * b * b;
  const int threads = work > kParallelWork ? omp_get_max_threads() : 1;
  const std::int64_t share_elements = (columns + 1) * chunk * b;
  Tensor scratch = Tensor::empty({threads, share_elements}, kDTypeOf<T>, backend.stream);
  Tensor packed = Tensor::zeros({threads, columns}, DType::kInt32, backend.stream);
  T* const buffers = scratch.data<T>();
  std::int32_t* const stamps = packed.data<std::int32_t>();
#pragma omp parallel for num_threads(threads)
  for (int t = 0; t < threads; ++t) {
    T* const buffer = buffers + t * share_elements;
    accumulate_share<T>(args, chunk,
                        {.begin = index.nnzb * t / threads,
                         .end = index.nnzb * (t + 1) / threads,
                         .x = buffer,
                         .dy = buffer + columns * chunk * b,
                         .packed = stamps + t * columns});
  }
}

template void bsr_weight_gradient<float>(Cpu, const BsrWeightGradientArgs&);
template void bsr_weight_gradient<double>(Cpu, const BsrWeightGradientArgs&);

}  // namespace hew::kernels
