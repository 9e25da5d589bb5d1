#pragma once

#include <cuda_pipeline.h>

#include "kernels/arrivals.cuh"
#include "kernels/dependents.cuh"
#include "kernels/embedding.h"
#include "kernels/id_groups.cuh"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

/// The gradient of the table is a sum over runs of equal ids in the list of positions sorted by id.
/// The list is cut into tiles. A run of a tile's length at most belongs to the tile where it begins
/// and goes straight to its row of the table. A longer one is cut into pieces of whole tiles, but
/// for its ends; a piece belongs to its first tile, and the last one that is done adds them all up.
namespace hew::kernels::embedding {

constexpr int kMostSumThreads = 128;
constexpr int kRing = 8;  // rows that a thread has under way
constexpr std::int32_t kMostPieces = 256;
constexpr std::uint32_t kNoId = ~0U;
constexpr int kZeroRows = kWarp;  // of the table, that a block looks at

// The pieces of a long run.
struct Pieces {
  std::int32_t tile;   // where the run begins
  std::int32_t step;   // tiles of a piece
  std::int32_t count;  // 0: the run is not long
};

// What a block adds up.
struct Part {
  std::int32_t begin;  // of the list
  std::int32_t end;
  Pieces head;  // of its first run, where that begins before the tile
  Pieces tail;  // of its last run, where that begins in the tile
};

template <class D, class A>
struct RunSums {
  const IdEntry* entries;  // [count]
  const IdRange* ranges;   // [rows + 1]
  const D* dy;             // [count, width]
  A* dtable;               // [rows, width]
  A* pieces;               // [2·tiles, width]: of a tile's head and of its tail
  int* arrivals;           // [tiles, slabs] pieces that are done of the long run that begins there
  std::int32_t count;
  std::int32_t tile;  // entries
  std::int32_t tiles;
  std::int32_t rows;
  std::uint32_t width;  // products with it are taken in 64 bits
  bool accumulate;

  __device__ Pieces pieces_of(const IdRange& run) const {
    Pieces cut{.tile = run.begin / tile, .step = 1, .count = 0};
    if (run.end - run.begin > tile) {
      const std::int32_t touched = (run.end - 1) / tile - cut.tile + 1;
      cut.step = (touched + kMostPieces - 1) / kMostPieces;
      cut.count = (touched + cut.step - 1) / cut.step;
    }
    return cut;
  }

  // The end of the piece that belongs to tile t.
  __device__ std::int32_t end_of_piece(const IdRange& run, const Pieces& cut,
                                       std::int32_t t) const {
    return static_cast<std::int32_t>(
        min(std::int64_t{run.end}, (std::int64_t{t} + cut.step) * tile));
  }

  __device__ Part part_of(std::int32_t t) const {
    const std::int32_t begin = t * tile;
    const std::int32_t last = min(begin + tile, count) - 1;
    const auto first_id = static_cast<std::int32_t>(entries[begin].id);
    const auto last_id = static_cast<std::int32_t>(entries[last].id);
    const IdRange first_run = ranges[first_id];
    const IdRange last_run = ranges[last_id];
    Part part{.begin = begin, .end = begin, .head = {}, .tail = {}};
    if (first_run.begin < begin) {
      const Pieces cut = pieces_of(first_run);
      if (cut.count > 0 && (t - cut.tile) % cut.step == 0 && first_id < rows) {
        part.head = cut;
        part.end = end_of_piece(first_run, cut, t);
      } else {
        part.begin = part.end = first_run.end;
      }
    }
    if (last_run.begin >= begin) {
      part.tail = pieces_of(last_run);
      part.end = part.tail.count > 0 ? end_of_piece(last_run, part.tail, t) : last_run.end;
      if (last_id >= rows) {
        part.tail = {};
        part.end = last_run.begin;
      }
    }
    return part;
  }
};

// to ← part, or to += part.
template <int n, class A>
__device__ inline void put(A* to, bool accumulate, const A (&part)[n]) {
  A sum[n] = {};
  if (accumulate)
    load<A, n>(to, sum);
#pragma unroll
  for (int k = 0; k < n; ++k) sum[k] += part[k];
  store<A, n>(to, sum);
}

// The same of two packs a lane, by whole warps whose lanes have neighbouring channels: `mine` is
// alike in pairs of lanes. These exchange a pack, so that each access of a pair is a whole sector
// of 32 bytes, not half of two.
template <int n, class A>
__device__ inline void put_pairs(A* to, bool accumulate, bool mine, const A (&sum)[n]) {
  constexpr int kPart = n / 2;
  const bool odd = threadIdx.x % 2 != 0;
  A first[kPart];
  A second[kPart];
#pragma unroll
  for (int k = 0; k < kPart; ++k) {
    const A other = __shfl_xor_sync(~0U, odd ? sum[k] : sum[kPart + k], 1);
    first[k] = odd ? other : sum[k];
    second[k] = odd ? sum[kPart + k] : other;
  }
  A* const at = to - (odd ? kPart : 0);
  if (mine) {
    put<kPart>(at, accumulate, first);
    put<kPart>(at + n, accumulate, second);
  }
}

// to ← sum, or to += sum. A pack of narrow D is more than one of sums.
template <int n, class A>
__device__ inline void write_sums(A* to, bool accumulate, const A (&sum)[n]) {
  constexpr int kPart = n < kPackSize<A> ? n : kPackSize<A>;
#pragma unroll
  for (int at = 0; at < n; at += kPart) {
    A part[kPart];
#pragma unroll
    for (int k = 0; k < kPart; ++k) part[k] = sum[at + k];
    put<kPart>(to + at, accumulate, part);
  }
}

// A row of the table, by whole warps.
template <int n, class D, class A>
__device__ inline void write_row(const RunSums<D, A>& args, std::int64_t row, std::int64_t channel,
                                 const A (&sum)[n]) {
  A* const to = args.dtable + row * args.width + channel;
  const bool mine = channel < args.width;
  if constexpr (n == 2 * kPackSize<A>) {
    if (args.width % (2 * n) == 0)
      return put_pairs<n>(to, args.accumulate, mine, sum);
  }
  if (mine)
    write_sums<n>(to, args.accumulate, sum);
}

// Puts the sum of tile t's piece down. In the block that is the last to do so: true, and the sum of
// all pieces.
template <int n, class D, class A>
__device__ bool finish_piece(const RunSums<D, A>& args, const Pieces& cut, std::int32_t t,
                             std::int64_t channel, A (&sum)[n]) {
  constexpr int kPart = n < kPackSize<A> ? n : kPackSize<A>;
  auto slot = [&](std::int32_t piece) {
    return 2 * (cut.tile + std::int64_t{piece} * cut.step) + (piece == 0 ? 1 : 0);
  };
  const bool mine = channel < args.width;
  if (mine)
    write_sums(args.pieces + slot((t - cut.tile) / cut.step) * args.width + channel,
               /*accumulate=*/false, sum);
  int* arrivals = args.arrivals + std::int64_t{cut.tile} * gridDim.y + blockIdx.y;
  if (!last_to_arrive(arrivals, cut.count))
    return false;
#pragma unroll
  for (int k = 0; k < n; ++k) sum[k] = 0;
#pragma unroll 8
  for (std::int32_t piece = 0; piece < (mine ? cut.count : 0); ++piece) {
    const A* from = args.pieces + slot(piece) * args.width + channel;
#pragma unroll
    for (int at = 0; at < n; at += kPart) {
      A some[kPart];
      load<A, kPart>(from + at, some);
#pragma unroll
      for (int k = 0; k < kPart; ++k) sum[at + k] += some[k];
    }
  }
  return true;
}

// Zero in the rows that no position has.
template <int n, class D, class A>
__device__ void write_zeros(const RunSums<D, A>& args, std::int32_t begin, std::int64_t channel) {
  const std::int32_t row = begin + static_cast<std::int32_t>(threadIdx.x % kWarp);
  const IdRange run = row < args.rows ? args.ranges[row] : IdRange{.begin = 0, .end = 1};
  unsigned int absent = __ballot_sync(~0U, run.begin == run.end);
  const A zero[n] = {};
  for (; absent != 0; absent &= absent - 1) {
    write_row<n>(args, begin + __ffs(static_cast<int>(absent)) - 1, channel, zero);
  }
}

// One block a tile, or kZeroRows rows of the table behind all tiles (x), and slab of channels (y),
// one pack of n channels a thread: all threads of a block go the same way.
template <class D, class A, int n>
__global__ void __launch_bounds__(kMostSumThreads) run_sums_kernel(RunSums<D, A> args) {
  using P = Pack<D, n>;
  extern __shared__ uint4 shared[];
  const std::int64_t channel =
      (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * n;
  const bool mine = channel < args.width;
  const auto t = static_cast<std::int32_t>(blockIdx.x);
  await_kernel_before();
  if (t >= args.tiles)
    return write_zeros<n>(args, (t - args.tiles) * kZeroRows, channel);
  const Part part = args.part_of(t);

  // Every thread fetches what it adds itself, so that it waits for nobody. One without channels of
  // its own adds the first ones, and writes nothing.
  const D* dy = args.dy + (mine ? channel : 0);
  P* const ring = reinterpret_cast<P*>(shared) + threadIdx.x;
  auto fetch = [&](P* to, std::int32_t i, std::uint32_t position) {
    if (i < part.end) {
      const D* from = dy + std::uint64_t{position} * args.width;
      if constexpr (sizeof(P) >= 4) {
        __pipeline_memcpy_async(to, from, sizeof(P));
      } else {
        *to = *reinterpret_cast<const P*>(from);
      }
    }
    __pipeline_commit();
  };
  auto position = [&](std::int32_t i) {
    return i < part.end ? static_cast<std::uint32_t>(args.entries[i].position) : 0U;
  };
  auto id_at = [&](std::int32_t i) { return i < part.end ? args.entries[i].id : kNoId; };
#pragma unroll
  for (std::int32_t i = 0; i < kRing; ++i) {
    fetch(ring + i * blockDim.x, part.begin + i, position(part.begin + i));
  }
  std::uint32_t position_ahead = position(part.begin + kRing);
  std::uint32_t id = id_at(part.begin);
  std::uint32_t next_id = id_at(part.begin + 1);
  P* slot = ring;
  bool first_run = true;
  A sum[n] = {};
  for (std::int32_t i = part.begin; i < part.end; ++i) {
    __pipeline_wait_prior(kRing - 1);
    const P row = *slot;
    fetch(slot, i + kRing, position_ahead);
    slot = slot + blockDim.x == ring + kRing * blockDim.x ? ring : slot + blockDim.x;
    position_ahead = position(i + kRing + 1);
    const std::uint32_t id_ahead = id_at(i + 2);
#pragma unroll
    for (int k = 0; k < n; ++k) sum[k] += widen(row.lane[k]);
    if (next_id != id) {
      const bool head = first_run && part.head.count > 0;
      const bool tail = !head && next_id == kNoId && part.tail.count > 0;
      const Pieces cut{.tile = head ? part.head.tile : part.tail.tile,
                       .step = head ? part.head.step : part.tail.step,
                       .count = head ? part.head.count : part.tail.count};
      const bool complete = !(head || tail) || finish_piece<n>(args, cut, t, channel, sum);
      if (complete)
        write_row<n>(args, id, channel, sum);
#pragma unroll
      for (int k = 0; k < n; ++k) sum[k] = 0;
      first_run = false;
    }
    id = next_id;
    next_id = id_ahead;
  }
}

// Long tiles leave few pieces, short ones fill the device. Only the count decides, so that the
// order of sums is always the same.
inline std::int32_t tile_of(std::int64_t count) {
  constexpr std::int64_t kMany = 1 << 17;
  return count < kMany ? 32 : 128;
}

template <int n, class T>
void sum_runs(Cuda backend, const IdGroups& groups, const ConstView& dy, const View& dtable,
              bool accumulate) {
  using D = OnDevice<T>;
  using A = Accumulator<T>;
  const std::int64_t rows = dtable.shape[0];
  const std::int64_t width = dtable.shape[1];
  const std::int64_t count = groups.ids.numel();
  const std::int32_t tile = tile_of(count);
  const std::int64_t tiles = ceil_div(count, tile);
  const std::int64_t packs = ceil_div(width, n);
  const std::int64_t slabs = ceil_div(packs, kMostSumThreads);
  const std::int64_t threads = ceil_div(ceil_div(packs, slabs), kWarp) * kWarp;
  const std::int64_t blocks = tiles + (accumulate ? 0 : ceil_div(rows, kZeroRows));
  if (blocks == 0)
    return;
  Tensor pieces = Tensor::empty({2 * tiles, width}, kDTypeOf<A>, backend.stream);
  const RunSums<D, A> args{.entries = entries_of(groups),
                           .ranges = ranges_of(groups),
                           .dy = elements<T>(dy),
                           .dtable = elements<A>(dtable),
                           .pieces = pieces.data<A>(),
                           .arrivals = arrivals_of(backend, tiles * slabs),
                           .count = static_cast<std::int32_t>(count),
                           .tile = tile,
                           .tiles = static_cast<std::int32_t>(tiles),
                           .rows = static_cast<std::int32_t>(rows),
                           .width = static_cast<std::uint32_t>(width),
                           .accumulate = accumulate};
  const dim3 grid(static_cast<unsigned int>(blocks), static_cast<unsigned int>(slabs));
  const std::size_t ring = kRing * static_cast<std::size_t>(threads) * sizeof(Pack<D, n>);
  launch_dependent(backend, run_sums_kernel<D, A, n>, grid, static_cast<unsigned int>(threads),
                   ring, args);
}

}  // namespace hew::kernels::embedding
