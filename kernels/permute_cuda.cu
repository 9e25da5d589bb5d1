#include <array>
#include <limits>

#include "kernels/launch.cuh"
#include "kernels/permute.h"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kRank = Shape::kMaxRank;
constexpr int kTile = 32;
constexpr int kTileRows = 8;  // of the threads that move a tile

// The dimensions of y, the first one slowest: extents, and strides in x. Neighbours that are
// neighbours in x too are one dimension; those of extent 1 are dropped. At least one is left.
struct Layout {
  int rank = 0;
  std::array<std::int64_t, kRank> extents{};
  std::array<std::int64_t, kRank> strides{};
};

Layout layout_of(const Shape& x, std::span<const int> axes) {
  std::array<std::int64_t, kRank> dense{};
  std::int64_t step = 1;
  for (int i = x.rank() - 1; i >= 0; --i) {
    dense[static_cast<std::size_t>(i)] = step;
    step *= x[i];
  }
  Layout out;
  for (const int axis : axes) {
    const std::int64_t extent = x[axis];
    const std::int64_t stride = dense[static_cast<std::size_t>(axis)];
    if (extent == 1)
      continue;
    const auto last = static_cast<std::size_t>(out.rank) - 1;
    if (out.rank > 0 && out.strides[last] == extent * stride) {
      out.extents[last] *= extent;
      out.strides[last] = stride;
    } else {
      out.extents[last + 1] = extent;
      out.strides[last + 1] = stride;
      ++out.rank;
    }
  }
  if (out.rank == 0)
    out = {.rank = 1, .extents = {1}, .strides = {1}};
  return out;
}

// y in packs of n elements, each contiguous in x too; strides and extents in packs.
template <class Index>
struct GatherArgs {
  Index packs;
  int rank;
  Index extents[kRank];
  std::int64_t strides[kRank];
};

template <class P, class Index>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const P* x, P* y, GatherArgs<Index> args) {
  const Index i = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  if (i >= args.packs)
    return;
  Index rest = i;
  std::int64_t from = 0;
#pragma unroll
  for (int d = kRank - 1; d >= 0; --d) {
    if (d < args.rank) {
      const Index above = d == 0 ? 0 : rest / args.extents[d];
      from += static_cast<std::int64_t>(rest - above * args.extents[d]) * args.strides[d];
      rest = above;
    }
  }
  y[i] = x[from];
}

template <class P, class Index>
void launch_gather(Cuda backend, const void* x, void* y, const Layout& layout, std::int64_t packs) {
  GatherArgs<Index> args{.packs = static_cast<Index>(packs), .rank = layout.rank};
  for (int d = 0; d < layout.rank; ++d) {
    args.extents[d] = static_cast<Index>(layout.extents[static_cast<std::size_t>(d)]);
    args.strides[d] = layout.strides[static_cast<std::size_t>(d)];
  }
  const auto blocks = static_cast<unsigned int>(ceil_div(packs, kThreads));
  gather_kernel<<<blocks, kThreads, 0, native(backend)>>>(static_cast<const P*>(x),
                                                          static_cast<P*>(y), args);
  check_launch("permute");
}

template <class D>
void gather(Cuda backend, const void* x, void* y, Layout layout, std::int64_t count) {
  constexpr int kPack = kPackSize<D>;
  const auto last = static_cast<std::size_t>(layout.rank) - 1;
  // Only the last dimension has stride 1; the others' strides must be whole packs.
  bool packs = layout.strides[last] == 1 && layout.extents[last] % kPack == 0 && packable(x, y);
  for (std::size_t d = 0; d < last; ++d) packs = packs && layout.strides[d] % kPack == 0;
  const bool narrow_index = count < std::numeric_limits<std::int32_t>::max();
  if (!packs) {
    return narrow_index ? launch_gather<D, std::uint32_t>(backend, x, y, layout, count)
                        : launch_gather<D, std::int64_t>(backend, x, y, layout, count);
  }
  layout.extents[last] /= kPack;
  for (std::size_t d = 0; d < last; ++d) layout.strides[d] /= kPack;
  using P = Pack<D, kPack>;
  return narrow_index ? launch_gather<P, std::uint32_t>(backend, x, y, layout, count / kPack)
                      : launch_gather<P, std::int64_t>(backend, x, y, layout, count / kPack);
}

// Dimension `rows` of y is contiguous in x, `cols` is contiguous in y; the rest are batches.
struct TransposeArgs {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t x_stride;  // along cols
  std::int64_t y_stride;  // along rows
  std::int64_t row_tiles;
  std::int64_t col_tiles;
  int batch_rank;
  std::int64_t extents[kRank];
  std::int64_t x_strides[kRank];
  std::int64_t y_strides[kRank];
};

// A tile passes through shared memory, so that both sides are read and written along their rows.
template <class D>
__global__ void __launch_bounds__(kTile* kTileRows)
    transpose_kernel(const D* x, D* y, TransposeArgs args) {
  __shared__ D tile[kTile][kTile + 1];
  std::int64_t rest = blockIdx.x;
  const std::int64_t row = rest % args.row_tiles * kTile;
  rest /= args.row_tiles;
  const std::int64_t col = rest % args.col_tiles * kTile;
  rest /= args.col_tiles;
  for (int d = args.batch_rank - 1; d >= 0; --d) {
    x += rest % args.extents[d] * args.x_strides[d];
    y += rest % args.extents[d] * args.y_strides[d];
    rest /= args.extents[d];
  }
  const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kTile; i += kTileRows) {
    const int k = i + static_cast<int>(threadIdx.y);
    if (row + lane < args.rows && col + k < args.cols)
      tile[k][lane] = x[row + lane + (col + k) * args.x_stride];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTile; i += kTileRows) {
    const int k = i + static_cast<int>(threadIdx.y);
    if (row + k < args.rows && col + lane < args.cols)
      y[(row + k) * args.y_stride + col + lane] = tile[lane][k];
  }
}

template <class D>
void transpose(Cuda backend, const D* x, D* y, const Layout& layout) {
  const auto last = static_cast<std::size_t>(layout.rank) - 1;
  TransposeArgs args{};
  args.cols = layout.extents[last];
  args.x_stride = layout.strides[last];
  std::int64_t batches = 1;
  std::array<std::int64_t, kRank> y_strides{};
  std::int64_t step = 1;
  for (std::size_t d = last + 1; d-- > 0;) {
    y_strides[d] = step;
    step *= layout.extents[d];
  }
  for (std::size_t d = 0; d < last; ++d) {
    if (layout.strides[d] == 1) {
      args.rows = layout.extents[d];
      args.y_stride = y_strides[d];
    } else {
      args.extents[args.batch_rank] = layout.extents[d];
      args.x_strides[args.batch_rank] = layout.strides[d];
      args.y_strides[args.batch_rank] = y_strides[d];
      ++args.batch_rank;
      batches *= layout.extents[d];
    }
  }
  args.row_tiles = ceil_div(args.rows, kTile);
  args.col_tiles = ceil_div(args.cols, kTile);
  const auto blocks = static_cast<unsigned int>(args.row_tiles * args.col_tiles * batches);
  transpose_kernel<<<blocks, dim3(kTile, kTileRows), 0, native(backend)>>>(x, y, args);
  check_launch("permute");
}

template <class Index>
struct CopyArgs {
  Index packs;  // in all
  Index row_packs;
  std::int64_t from_stride;
  std::int64_t to_stride;
};

template <class P, class Index>
__global__ void __launch_bounds__(kThreads)
    copy_columns_kernel(const P* from, P* to, CopyArgs<Index> args) {
  const Index i = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  if (i >= args.packs)
    return;
  const Index row = i / args.row_packs;
  const Index column = i - row * args.row_packs;
  to[row * args.to_stride + column] = from[row * args.from_stride + column];
}

// `n` elements a pack, which all strides and the count are multiples of.
template <int n, class D>
void copy_columns_packed(Cuda backend, const D* from, D* to, const CopyColumns& args) {
  using P = Pack<D, n>;
  const std::int64_t packs = args.from.shape[0] * (args.count / n);
  const auto blocks = static_cast<unsigned int>(ceil_div(packs, kThreads));
  const P* source = reinterpret_cast<const P*>(from);
  P* target = reinterpret_cast<P*>(to);
  const auto launch = [&]<class Index>(Index row_packs) {
    copy_columns_kernel<<<blocks, kThreads, 0, native(backend)>>>(
        source, target,
        CopyArgs<Index>{.packs = static_cast<Index>(packs),
                        .row_packs = row_packs,
                        .from_stride = args.from.shape[1] / n,
                        .to_stride = args.to.shape[1] / n});
  };
  if (packs < std::numeric_limits<std::int32_t>::max())
    launch(static_cast<std::uint32_t>(args.count / n));
  else
    launch(args.count / n);
  check_launch("copy_columns");
}

}  // namespace

template <class T>
void permute(Cuda backend, const ConstView& x, std::span<const int> axes, const View& y) {
  using D = OnDevice<T>;
  const std::int64_t count = x.numel();
  if (count == 0)
    return;
  const Layout layout = layout_of(x.shape, axes);
  if (layout.strides[static_cast<std::size_t>(layout.rank) - 1] == 1)
    gather<D>(backend, x.data, y.data, layout, count);
  else
    transpose(backend, elements<T>(x), elements<T>(y), layout);
}

template <class T>
void copy_columns(Cuda backend, const CopyColumns& args) {
  using D = OnDevice<T>;
  constexpr int kPack = kPackSize<D>;
  if (args.from.shape[0] == 0 || args.count == 0)
    return;
  const D* from = elements<T>(args.from) + args.from_begin;
  D* to = elements<T>(args.to) + args.to_begin;
  const bool packs = args.count % kPack == 0 && args.from.shape[1] % kPack == 0 &&
                     args.to.shape[1] % kPack == 0 && packable(from, to);
  if (packs)
    copy_columns_packed<kPack>(backend, from, to, args);
  else
    copy_columns_packed<1>(backend, from, to, args);
}

#define HEW_INSTANTIATE(T)                                                             \
  template void permute<T>(Cuda, const ConstView&, std::span<const int>, const View&); \
  template void copy_columns<T>(Cuda, const CopyColumns&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
HEW_INSTANTIATE(BFloat16)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
