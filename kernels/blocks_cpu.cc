#include <algorithm>
#include <cmath>

#include "kernels/blocks.h"

namespace hew::kernels {
namespace {

// Independent partial sums, so that the compiler may vectorise a row of a block.
constexpr std::int64_t kLanes = 8;

template <class T>
double dot(const T* a, const T* b, std::int64_t n) {
  double lane[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t j = 0; j < kLanes; ++j) {
      lane[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
    }
  }
  for (; i < n; ++i) lane[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  double sum = 0;
  for (const double part : lane) sum += part;
  return sum;
}

// The real part of block (r, c) of an N × K matrix.
struct Extent {
  std::int64_t rows;
  std::int64_t cols;
};

Extent extent_of(std::int64_t n, std::int64_t k, std::int64_t b, std::int64_t r, std::int64_t c) {
  return {std::min(b, n - r * b), std::min(b, k - c * b)};
}

// Σ over the block of a ⊙ b, both row-major with that stride.
template <class T>
double block_sum(const T* a, const T* b, std::int64_t stride, const Extent& extent) {
  double sum = 0;
  for (std::int64_t i = 0; i < extent.rows; ++i) {
    sum += dot(a + i * stride, b + i * stride, extent.cols);
  }
  return sum;
}

double norm_of(double squares, const Extent& extent) {
  return std::sqrt(squares / static_cast<double>(extent.rows * extent.cols));
}

// body(p, r, c) for each live block p in block (r, c); block rows are shared among the threads.
template <class Body>
void for_each_live(const BsrIndex& index, const Body& body) {
#pragma omp parallel for
  for (std::int64_t r = 0; r < index.block_rows(); ++r) {
    for (std::int64_t p = index.crow[r]; p < index.crow[r + 1]; ++p) body(p, r, index.col[p]);
  }
}

}  // namespace

template <class T>
void block_norms(Cpu /*backend*/, const ConstView& dense, std::int64_t block, const View& norms) {
  const std::int64_t n = dense.shape[0];
  const std::int64_t k = dense.shape[1];
  const std::int64_t columns = norms.shape[1];
#pragma omp parallel for
  for (std::int64_t r = 0; r < norms.shape[0]; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const Extent extent = extent_of(n, k, block, r, c);
      const T* w = dense.as<T>() + r * block * k + c * block;
      norms.as<double>()[r * columns + c] = norm_of(block_sum(w, w, k, extent), extent);
    }
  }
}

template <class T>
void live_block_norms(Cpu /*backend*/, const ConstView& values, const BsrIndex& index,
                      const View& norms) {
  const std::int64_t b = index.block;
  for_each_live(index, [&](std::int64_t p, std::int64_t r, std::int64_t c) {
    const Extent extent = extent_of(index.rows, index.cols, b, r, c);
    const T* w = values.as<T>() + p * b * b;
    norms.as<double>()[p] = norm_of(block_sum(w, w, b, extent), extent);
  });
}

template <class T>
void gather_blocks(Cpu /*backend*/, const ConstView& dense, const BsrIndex& index,
                   const View& values) {
  const std::int64_t b = index.block;
  for_each_live(index, [&](std::int64_t p, std::int64_t r, std::int64_t c) {
    const Extent extent = extent_of(index.rows, index.cols, b, r, c);
    const T* from = dense.as<T>() + r * b * index.cols + c * b;
    T* to = values.as<T>() + p * b * b;
    for (std::int64_t i = 0; i < extent.rows; ++i) {
      std::copy_n(from + i * index.cols, extent.cols, to + i * b);
      std::fill(to + i * b + extent.cols, to + (i + 1) * b, T{0});
    }
    std::fill(to + extent.rows * b, to + b * b, T{0});
  });
}

template <class T>
void accumulate_blocks(Cpu /*backend*/, const ConstView& dense, const BsrIndex& index,
                       const View& values) {
  const std::int64_t b = index.block;
  for_each_live(index, [&](std::int64_t p, std::int64_t r, std::int64_t c) {
    const Extent extent = extent_of(index.rows, index.cols, b, r, c);
    const T* from = dense.as<T>() + r * b * index.cols + c * b;
    T* to = values.as<T>() + p * b * b;
    for (std::int64_t i = 0; i < extent.rows; ++i) {
      for (std::int64_t j = 0; j < extent.cols; ++j) to[i * b + j] += from[i * index.cols + j];
    }
  });
}

template <class T>
void scatter_blocks(Cpu /*backend*/, const ConstView& values, const BsrIndex& index,
                    const View& dense) {
  const std::int64_t b = index.block;
#pragma omp parallel for
  for (std::int64_t r = 0; r < index.block_rows(); ++r) {
    T* const row = dense.as<T>() + r * b * index.cols;
    std::fill_n(row, std::min(b, index.rows - r * b) * index.cols, T{0});
    for (std::int64_t p = index.crow[r]; p < index.crow[r + 1]; ++p) {
      const std::int64_t c = index.col[p];
      const Extent extent = extent_of(index.rows, index.cols, b, r, c);
      for (std::int64_t i = 0; i < extent.rows; ++i) {
        std::copy_n(values.as<T>() + (p * b + i) * b, extent.cols, row + i * index.cols + c * b);
      }
    }
  }
}

template <class T>
void move_blocks(Cpu /*backend*/, const ConstView& values, const ConstView& source,
                 const View& moved) {
  const std::int64_t count = moved.shape[0];
  const std::int64_t slice = count == 0 ? 0 : moved.numel() / count;
  const std::int64_t* from = source.as<std::int64_t>();
#pragma omp parallel for
  for (std::int64_t p = 0; p < count; ++p) {
    if (from[p] >= 0)
      std::copy_n(values.as<T>() + from[p] * slice, slice, moved.as<T>() + p * slice);
  }
}

template <class T>
void block_dot(Cpu /*backend*/, const ConstView& g, const ConstView& w, std::int64_t block,
               const View& dots) {
  const std::int64_t n = g.shape[0];
  const std::int64_t k = g.shape[1];
  const std::int64_t columns = dots.shape[1];
#pragma omp parallel for
  for (std::int64_t r = 0; r < dots.shape[0]; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t at = r * block * k + c * block;
      dots.as<T>()[r * columns + c] = static_cast<T>(
          block_sum(g.as<T>() + at, w.as<T>() + at, k, extent_of(n, k, block, r, c)));
    }
  }
}

template <class T>
void blend_blocks(Cpu /*backend*/, const BlendBlocks& args) {
  const std::int64_t n = args.x.shape[0];
  const std::int64_t k = args.x.shape[1];
  const std::int64_t columns = args.a.shape[1];
  const bool two = args.y.data != nullptr;
#pragma omp parallel for
  for (std::int64_t i = 0; i < n; ++i) {
    const T* x = args.x.as<T>() + i * k;
    const T* y = two ? args.y.as<T>() + i * k : x;
    T* out = args.out.as<T>() + i * k;
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t at = i / args.block * columns + c;
      const auto a = static_cast<T>(args.a.as<double>()[at]);
      const auto b = two ? static_cast<T>(args.b.as<double>()[at]) : T{0};
      const std::int64_t end = std::min(k, (c + 1) * args.block);
      for (std::int64_t j = c * args.block; j < end; ++j) {
        out[j] = two ? a * x[j] + b * y[j] : a * x[j];
      }
    }
  }
}

#define HEW_INSTANTIATE(T)                                                                        \
  template void block_norms<T>(Cpu, const ConstView&, std::int64_t, const View&);                 \
  template void live_block_norms<T>(Cpu, const ConstView&, const BsrIndex&, const View&);         \
  template void gather_blocks<T>(Cpu, const ConstView&, const BsrIndex&, const View&);            \
  template void accumulate_blocks<T>(Cpu, const ConstView&, const BsrIndex&, const View&);        \
  template void scatter_blocks<T>(Cpu, const ConstView&, const BsrIndex&, const View&);           \
  template void move_blocks<T>(Cpu, const ConstView&, const ConstView&, const View&);             \
  template void block_dot<T>(Cpu, const ConstView&, const ConstView&, std::int64_t, const View&); \
  template void blend_blocks<T>(Cpu, const BlendBlocks&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
