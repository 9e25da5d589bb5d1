#include <limits>

#include "kernels/embedding.h"
#include "kernels/embedding_sums.cuh"
#include "kernels/launch.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

// Channels of a row are gathered in slabs of one pack a lane, one slab after the other, so that the
// part of the table that is in use at a time stays in the cache. Rows of y are not to take its
// place.
constexpr int kGatherThreads = 256;
constexpr int kRowsOfWarp = 8;  // at once
constexpr int kRowsOfBlock = kGatherThreads / kWarp * kRowsOfWarp;

template <class D, int n>
__device__ inline void store_streaming(D* to, const Pack<D, n>& pack) {
  if constexpr (sizeof(pack) == sizeof(uint4)) {
    __stcs(reinterpret_cast<uint4*>(to), *reinterpret_cast<const uint4*>(&pack));
  } else {
    *reinterpret_cast<Pack<D, n>*>(to) = pack;
  }
}

template <class D, int n>
__global__ void __launch_bounds__(kGatherThreads)
    gather_kernel(const std::int32_t* ids, const D* table, D* y, std::int64_t count,
                  std::int64_t rows, std::int64_t width) {
  const auto lane = static_cast<int>(threadIdx.x % kWarp);
  const std::int64_t first =
      static_cast<std::int64_t>(blockIdx.x) * kRowsOfBlock + threadIdx.x / kWarp * kRowsOfWarp;
  const std::int64_t channel = (static_cast<std::int64_t>(blockIdx.y) * kWarp + lane) * n;
  const bool has_id = lane < kRowsOfWarp && first + lane < count;
  const std::int32_t of_lane = has_id ? ids[first + lane] : -1;
  Pack<D, n> row[kRowsOfWarp];
#pragma unroll
  for (int r = 0; r < kRowsOfWarp; ++r) {
    const std::int32_t id = __shfl_sync(~0U, of_lane, r);
#pragma unroll
    for (int k = 0; k < n; ++k) {
      row[r].lane[k] = narrow<D>(std::numeric_limits<ComputeType<D>>::quiet_NaN());
    }
    if (id >= 0 && id < rows && channel < width)
      row[r] = *reinterpret_cast<const Pack<D, n>*>(table + id * width + channel);
  }
#pragma unroll
  for (int r = 0; r < kRowsOfWarp; ++r) {
    if (first + r < count && channel < width)
      store_streaming(y + (first + r) * width + channel, row[r]);
  }
}

template <class D, int n>
void launch_gather(Cuda backend, const std::int32_t* ids, const D* table, D* y, std::int64_t count,
                   std::int64_t rows, std::int64_t width) {
  const dim3 grid(static_cast<unsigned int>(ceil_div(count, kRowsOfBlock)),
                  static_cast<unsigned int>(ceil_div(width, kWarp * n)));
  gather_kernel<D, n>
      <<<grid, kGatherThreads, 0, native(backend)>>>(ids, table, y, count, rows, width);
  check_launch("embedding");
}

}  // namespace

template <class T>
void embedding_forward(Cuda backend, const ConstView& ids, const ConstView& table, const View& y) {
  using D = OnDevice<T>;
  if (y.numel() == 0)
    return;
  const std::int64_t rows = table.shape[0];
  const std::int64_t width = table.shape[1];
  const std::int64_t count = ids.numel();
  auto launch = [&]<int n>() {
    launch_gather<D, n>(backend, ids.as<std::int32_t>(), elements<T>(table), elements<T>(y), count,
                        rows, width);
  };
  if (width % kPackSize<D> == 0 && packable(table.data, y.data)) {
    launch.template operator()<kPackSize<D>>();
  } else {
    launch.template operator()<1>();
  }
}

template <class T>
void embedding_backward(Cuda backend, const IdGroups& groups, const ConstView& dy,
                        const View& dtable, bool accumulate) {
  constexpr int kPack = kPackSize<OnDevice<T>>;
  constexpr int kPackOfSums = kPackSize<Accumulator<T>>;
  if (dtable.numel() == 0)
    return;
  const std::int64_t width = dtable.shape[1];
  const bool packs = packable(dy.data, dtable.data);
  if (packs && width % kPack == 0) {
    embedding::sum_runs<kPack, T>(backend, groups, dy, dtable, accumulate);
  } else if (packs && width % kPackOfSums == 0) {
    embedding::sum_runs<kPackOfSums, T>(backend, groups, dy, dtable, accumulate);
  } else {
    embedding::sum_runs<1, T>(backend, groups, dy, dtable, accumulate);
  }
}

#define HEW_EMBEDDING(T)                                                                     \
  template void embedding_forward<T>(Cuda, const ConstView&, const ConstView&, const View&); \
  template void embedding_backward<T>(Cuda, const IdGroups&, const ConstView&, const View&, bool);
HEW_EMBEDDING(float)
HEW_EMBEDDING(double)
HEW_EMBEDDING(BFloat16)
#undef HEW_EMBEDDING

}  // namespace hew::kernels
