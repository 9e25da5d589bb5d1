#include <algorithm>
#include <array>

#include "kernels/permute.h"

namespace hew::kernels {
namespace {

// Fewer elements than this are not worth a second thread.
constexpr std::int64_t kParallel = 8192;

using Strides = std::array<std::int64_t, Shape::kMaxRank>;

// strides[i]: elements of x between neighbours along dimension i of y.
Strides strides_of(const Shape& x, std::span<const int> axes) {
  Strides dense{};
  std::int64_t step = 1;
  for (int i = x.rank() - 1; i >= 0; --i) {
    dense[static_cast<std::size_t>(i)] = step;
    step *= x[i];
  }
  Strides strides{};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    strides[i] = dense[static_cast<std::size_t>(axes[i])];
  }
  return strides;
}

}  // namespace

template <class T>
void permute(Cpu /*backend*/, const ConstView& x, std::span<const int> axes, const View& y) {
  const int rank = y.shape.rank();
  const std::int64_t inner = rank == 0 ? 1 : y.shape[-1];
  const std::int64_t outer = inner == 0 ? 0 : y.numel() / inner;
  const Strides strides = strides_of(x.shape, axes);
  const std::int64_t inner_stride = rank == 0 ? 1 : strides[static_cast<std::size_t>(rank - 1)];
#pragma omp parallel for if (y.numel() > kParallel)
  for (std::int64_t row = 0; row < outer; ++row) {
    std::int64_t offset = 0;
    std::int64_t rest = row;
    for (int i = rank - 2; i >= 0; --i) {
      offset += rest % y.shape[i] * strides[static_cast<std::size_t>(i)];
      rest /= y.shape[i];
    }
    const T* from = x.as<T>() + offset;
    T* to = y.as<T>() + row * inner;
    if (inner_stride == 1) {
      std::copy_n(from, inner, to);
    } else {
      for (std::int64_t j = 0; j < inner; ++j) to[j] = from[j * inner_stride];
    }
  }
}

template <class T>
void copy_columns(Cpu /*backend*/, const CopyColumns& args) {
  const T* from = args.from.as<T>() + args.from_begin;
  T* to = args.to.as<T>() + args.to_begin;
  const std::int64_t rows = args.from.shape[0];
#pragma omp parallel for if (rows * args.count > kParallel)
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy_n(from + row * args.from.shape[1], args.count, to + row * args.to.shape[1]);
  }
}

#define HEW_INSTANTIATE(T)                                                            \
  template void permute<T>(Cpu, const ConstView&, std::span<const int>, const View&); \
  template void copy_columns<T>(Cpu, const CopyColumns&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
