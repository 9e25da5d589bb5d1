#include <algorithm>
#include <bit>
#include <cub/device/device_radix_sort.cuh>
#include <limits>

#include "kernels/embedding.h"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = kThreads / kWarp;

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

// The gradient of the table is a sum over runs of equal ids in the list of positions sorted by id.
// The list is cut into tiles. A run inside one tile goes straight to its row of the table. What a
// tile holds of a run that goes beyond it becomes an entry of a second, much shorter list of the
// same kind, and so on. The lists of entries have two a tile, for its first and its last run; a key
// is the id, with kNothing set where there is nothing to add. A key outside the table, which one
// with kNothing always is, counts for nothing.
constexpr int kMostOfTile = 64;
constexpr std::uint32_t kNothing = 1U << 31U;

__device__ inline std::uint32_t id_of(std::uint32_t key) {
  return key & ~kNothing;
}

// keys ← ids, or `rows` for an id that is not in the table; present[id] ← 1.
__global__ void keys_kernel(const std::int32_t* ids, std::uint32_t* keys, std::int32_t* positions,
                            std::uint8_t* present, std::int64_t count, std::int64_t rows) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count)
    return;
  const std::int64_t id = ids[i];
  const bool known = id >= 0 && id < rows;
  keys[i] = static_cast<std::uint32_t>(known ? id : rows);
  positions[i] = static_cast<std::int32_t>(i);
  if (known)
    present[id] = 1;
}

// Zero in the rows that no position has. One warp a row.
template <class A, int n>
__global__ void absent_rows_kernel(const std::uint8_t* present, A* dtable, std::int64_t rows,
                                   std::int64_t width) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kRowsPerBlock;
  const A zero[n] = {};
  for (std::int64_t row =
           static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
       row < rows; row += stride) {
    if (present[row] != 0)
      continue;
    for (std::int64_t c = threadIdx.x % kWarp * n; c < width; c += kWarp * n) {
      store<A, n>(dtable + row * width + c, zero);
    }
  }
}

// One list and the next; D is what is added up here, A what the sums are kept in.
template <class D, class A>
struct Runs {
  const std::uint32_t* keys;      // [count], ids in ascending order
  const std::int32_t* positions;  // [count] rows of `from`; null: in order
  const D* from;                  // [count, width]
  std::int64_t count;
  int tile;                  // entries of a tile, kMostOfTile at most
  std::uint32_t* next_keys;  // [2·tiles]; null where there is one tile
  A* next;                   // [2·tiles, width]
  A* dtable;                 // [rows, width]
  std::uint32_t rows;
  std::int64_t width;
  bool accumulate;
};

// to ← sum, or to += sum. A pack of narrow D is more than one of sums.
template <int n, class A>
__device__ inline void write_sums(A* to, bool accumulate, const A (&sum)[n]) {
  constexpr int kPart = n < kPackSize<A> ? n : kPackSize<A>;
#pragma unroll
  for (int at = 0; at < n; at += kPart) {
    A part[kPart] = {};
    if (accumulate)
      load<A, kPart>(to + at, part);
#pragma unroll
    for (int k = 0; k < kPart; ++k) part[k] += sum[at + k];
    store<A, kPart>(to + at, part);
  }
}

// One block a tile (x) and slab of channels (y), one pack of n channels a thread: all threads of a
// block go the same way.
template <class D, class A, int n>
__global__ void __maxnreg__(96) runs_kernel(Runs<D, A> args) {
  __shared__ std::uint32_t keys[kMostOfTile];
  __shared__ std::int64_t offsets[kMostOfTile];
  const std::int64_t tile = blockIdx.x;
  const std::int64_t begin = tile * args.tile;
  const auto length = static_cast<int>(min(std::int64_t{args.tile}, args.count - begin));
  for (auto i = static_cast<int>(threadIdx.x); i < length; i += static_cast<int>(blockDim.x)) {
    keys[i] = args.keys[begin + i];
    offsets[i] = (args.positions == nullptr ? begin + i : args.positions[begin + i]) * args.width;
  }
  // Read before waiting for the others.
  const bool any_before = begin > 0;
  const bool any_behind = begin + length < args.count;
  const std::uint32_t before = any_before ? args.keys[begin - 1] : 0;
  const std::uint32_t behind = any_behind ? args.keys[begin + length] : 0;
  __syncthreads();
  const bool goes_back = any_before && id_of(before) == id_of(keys[0]);
  const bool goes_on = any_behind && id_of(behind) == id_of(keys[length - 1]);
  const std::int64_t channel =
      (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * n;
  const bool mine = channel < args.width;

  bool first = true;    // in the tile's first run
  bool nothing = true;  // in this run so far
  bool head_nothing = true;
  bool tail_nothing = true;
  A sum[n] = {};
  auto add = [&](int i, const Pack<D, n>& pack) {
    if (keys[i] < args.rows) {
      nothing = false;
#pragma unroll
      for (int k = 0; k < n; ++k) sum[k] += widen(pack.lane[k]);
    }
  };
  // At the end of a run hands the sum over.
  auto finish = [&](int i) {
    const bool last = i + 1 == length;
    if (!last && id_of(keys[i + 1]) == id_of(keys[i]))
      return;
    const std::uint32_t id = id_of(keys[i]);
    const bool back = first && goes_back;
    const bool on = last && goes_on;
    if (!nothing && mine) {
      A* to = back || on ? args.next + (2 * tile + (back ? 0 : 1)) * args.width + channel
                         : args.dtable + id * args.width + channel;
      write_sums(to, args.accumulate && !back && !on, sum);
    }
    if (back) {
      head_nothing = nothing;
    } else if (on) {
      tail_nothing = nothing;
    }
#pragma unroll
    for (int k = 0; k < n; ++k) sum[k] = 0;
    first = false;
    nothing = true;
  };

  constexpr int kAhead = 8;
  for (int i = 0; i < length; i += kAhead) {
    Pack<D, n> ahead[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (mine && i + j < length && keys[i + j] < args.rows)
        ahead[j] = *reinterpret_cast<const Pack<D, n>*>(args.from + offsets[i + j] + channel);
    }
    // Ids ascend: a run that has the first entry of the next batch has all of this one.
    if (i + kAhead < length && id_of(keys[i]) == id_of(keys[i + kAhead])) {
#pragma unroll
      for (int j = 0; j < kAhead; ++j) add(i + j, ahead[j]);
      continue;
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (i + j < length) {
        add(i + j, ahead[j]);
        finish(i + j);
      }
    }
  }
  if (args.next_keys != nullptr && blockIdx.y == 0 && threadIdx.x == 0) {
    args.next_keys[2 * tile] = id_of(keys[0]) | (head_nothing ? kNothing : 0U);
    args.next_keys[2 * tile + 1] = id_of(keys[length - 1]) | (tail_nothing ? kNothing : 0U);
  }
}

template <int n, class D, class A>
void launch_runs(Cuda backend, const Runs<D, A>& runs) {
  const std::int64_t packs = runs.width / n;
  const std::int64_t slabs = ceil_div(packs, kThreads);
  const std::int64_t threads = ceil_div(ceil_div(packs, slabs), kWarp) * kWarp;
  const dim3 grid(static_cast<unsigned int>(ceil_div(runs.count, runs.tile)),
                  static_cast<unsigned int>(slabs));
  runs_kernel<D, A, n><<<grid, static_cast<unsigned int>(threads), 0, native(backend)>>>(runs);
  check_launch("embedding_backward");
}

// Long tiles leave short lists, short ones fill the device. Only the count decides, so that the
// order of sums is always the same.
int tile_of(std::int64_t count) {
  constexpr std::int64_t kMany = 1 << 17;
  return count < kMany ? kMostOfTile / 2 : kMostOfTile;
}

// Adds up this list, then the ones that it leaves.
template <int n, class D, class A>
void sum_runs(Cuda backend, Runs<D, A> runs) {
  constexpr int kPart = std::min(n, kPackSize<A>);
  runs.tile = tile_of(runs.count);
  const std::int64_t tiles = ceil_div(runs.count, runs.tile);
  if (tiles == 1)
    return launch_runs<n>(backend, runs);
  Tensor next_keys = Tensor::empty({2 * tiles}, DType::kInt32, backend.stream);
  Tensor next = Tensor::empty({2 * tiles, runs.width}, kDTypeOf<A>, backend.stream);
  runs.next_keys = reinterpret_cast<std::uint32_t*>(next_keys.data<std::int32_t>());
  runs.next = next.data<A>();
  launch_runs<n>(backend, runs);
  sum_runs<kPart>(backend, Runs<A, A>{.keys = runs.next_keys,
                                      .positions = nullptr,
                                      .from = runs.next,
                                      .count = 2 * tiles,
                                      .tile = 0,
                                      .next_keys = nullptr,
                                      .next = nullptr,
                                      .dtable = runs.dtable,
                                      .rows = runs.rows,
                                      .width = runs.width,
                                      .accumulate = runs.accumulate});
}

// Ids and their positions, sorted by id; equal ids stay in the order of their positions.
struct SortedIds {
  Tensor keys;
  Tensor positions;
};

SortedIds sorted_ids(Cuda backend, const ConstView& ids, std::int64_t rows, Tensor& present) {
  const std::int64_t count = ids.numel();
  auto list = [&] { return Tensor::empty({count}, DType::kInt32, backend.stream); };
  auto keys_of = [](Tensor& tensor) {
    return reinterpret_cast<std::uint32_t*>(tensor.data<std::int32_t>());
  };
  Tensor keys = list();
  Tensor positions = list();
  SortedIds sorted{.keys = list(), .positions = list()};
  keys_kernel<<<static_cast<unsigned int>(ceil_div(count, kThreads)), kThreads, 0,
                native(backend)>>>(ids.as<std::int32_t>(), keys_of(keys),
                                   positions.data<std::int32_t>(), present.data<std::uint8_t>(),
                                   count, rows);
  check_launch("embedding_backward");
  const int bits = std::bit_width(static_cast<std::uint64_t>(rows));
  std::size_t bytes = 0;
  auto sort = [&](void* scratch) {
    cuda::check(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys_of(keys), keys_of(sorted.keys),
                                                positions.data<std::int32_t>(),
                                                sorted.positions.data<std::int32_t>(), count,
                                                /*begin_bit=*/0, /*end_bit=*/bits, native(backend)),
                "cub::DeviceRadixSort::SortPairs");
  };
  sort(nullptr);  // only says how much it needs
  Tensor scratch = Tensor::empty({static_cast<std::int64_t>(std::max<std::size_t>(bytes, 1))},
                                 DType::kUInt8, backend.stream);
  sort(scratch.data<std::uint8_t>());
  return sorted;
}

template <int n, class T>
void scatter(Cuda backend, const ConstView& ids, const ConstView& dy, const View& dtable,
             bool accumulate) {
  using A = Accumulator<T>;
  const std::int64_t rows = dtable.shape[0];
  const std::int64_t width = dtable.shape[1];
  Tensor present = Tensor::zeros({rows}, DType::kUInt8, backend.stream);
  if (ids.numel() > 0) {
    const SortedIds sorted = sorted_ids(backend, ids, rows, present);
    sum_runs<n>(backend, Runs<OnDevice<T>, A>{.keys = reinterpret_cast<const std::uint32_t*>(
                                                  sorted.keys.data<std::int32_t>()),
                                              .positions = sorted.positions.data<std::int32_t>(),
                                              .from = elements<T>(dy),
                                              .count = ids.numel(),
                                              .tile = 0,
                                              .next_keys = nullptr,
                                              .next = nullptr,
                                              .dtable = elements<A>(dtable),
                                              .rows = static_cast<std::uint32_t>(rows),
                                              .width = width,
                                              .accumulate = accumulate});
  }
  if (!accumulate) {
    absent_rows_kernel<A, std::min(n, kPackSize<A>)>
        <<<grid_for(backend, rows, kRowsPerBlock), kThreads, 0, native(backend)>>>(
            present.data<std::uint8_t>(), elements<A>(dtable), rows, width);
    check_launch("embedding_backward");
  }
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
void embedding_backward(Cuda backend, const ConstView& ids, const ConstView& dy, const View& dtable,
                        bool accumulate) {
  constexpr int kPack = kPackSize<OnDevice<T>>;
  constexpr int kPackOfSums = kPackSize<Accumulator<T>>;
  if (dtable.numel() == 0)
    return;
  const std::int64_t width = dtable.shape[1];
  const bool packs = packable(dy.data, dtable.data);
  if (packs && width % kPack == 0) {
    scatter<kPack, T>(backend, ids, dy, dtable, accumulate);
  } else if (packs && width % kPackOfSums == 0) {
    scatter<kPackOfSums, T>(backend, ids, dy, dtable, accumulate);
  } else {
    scatter<1, T>(backend, ids, dy, dtable, accumulate);
  }
}

#define HEW_EMBEDDING(T)                                                                     \
  template void embedding_forward<T>(Cuda, const ConstView&, const ConstView&, const View&); \
  template void embedding_backward<T>(Cuda, const ConstView&, const ConstView&, const View&, bool);
HEW_EMBEDDING(float)
HEW_EMBEDDING(double)
HEW_EMBEDDING(BFloat16)
#undef HEW_EMBEDDING

}  // namespace hew::kernels
