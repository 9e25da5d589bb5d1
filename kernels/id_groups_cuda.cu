#include <algorithm>
#include <bit>
#include <cub/block/block_scan.cuh>
#include <utility>

#include "kernels/dependents.cuh"
#include "kernels/id_groups.cuh"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"

/// A radix sort, by the lowest digit first, for lists of some 10⁵ entries: there the time is that
/// of passes waiting for one another, so that a block asks at once for what all others have counted
/// instead of waiting for the block before it.
namespace hew::kernels {
namespace {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
constexpr int kPerThread = 4;
constexpr int kBatch = kThreads * kPerThread;
// Every block reads the counts of all.
constexpr std::int64_t kMostSpans = 256;
constexpr int kParts = kThreads / kDigits;  // of the spans, summed side by side

// One pass. A block has a span of the list, a whole number of batches but for the last one.
struct Pass {
  const std::int32_t* ids;  // the first pass: the list as it came; else null
  const IdEntry* from;      // [count]
  IdEntry* to;              // [count]
  std::uint32_t* counts;    // [spans, kDigits] entries of a span with that digit
  std::int64_t count;
  std::int64_t span;
  std::uint32_t rows;
  int shift;  // of the digit

  __device__ IdEntry entry(std::int64_t i) const {
    if (ids == nullptr)
      return from[i];
    const auto id = static_cast<std::uint32_t>(ids[i]);  // a negative one becomes a large one
    return {.id = id < rows ? id : rows, .position = static_cast<std::int32_t>(i)};
  }
  __device__ unsigned int digit(const IdEntry& entry) const {
    return entry.id >> shift & (kDigits - 1);
  }
};

__global__ void __launch_bounds__(kThreads) count_kernel(Pass pass) {
  __shared__ std::uint32_t counts[kDigits];
  allow_next_kernel();
  await_kernel_before();
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread < kDigits)
    counts[thread] = 0;
  __syncthreads();
  const std::int64_t begin = blockIdx.x * pass.span;
  const std::int64_t end = min(begin + pass.span, pass.count);
#pragma unroll 4
  for (std::int64_t i = begin + thread; i < end; i += kThreads) {
    atomicAdd(&counts[pass.digit(pass.entry(i))], 1U);
  }
  __syncthreads();
  if (thread < kDigits)
    pass.counts[blockIdx.x * kDigits + thread] = counts[thread];
}

// base[digit] ← where this span's first entry with the digit goes: behind all entries with a lower
// digit and those with the same one in spans before.
__device__ void find_bases(const Pass& pass, std::uint32_t (&scratch)[kWarps][kDigits],
                           std::uint32_t (&base)[kDigits]) {
  using Scan = cub::BlockScan<std::uint32_t, kThreads>;
  __shared__ typename Scan::TempStorage scan;
  static_assert(2 * kParts <= kWarps);
  const auto thread = static_cast<int>(threadIdx.x);
  const int digit = thread % kDigits;
  const int part = thread / kDigits;
  std::uint32_t all = 0;
  std::uint32_t before = 0;
#pragma unroll 8
  for (int span = part; span < static_cast<int>(gridDim.x); span += kParts) {
    const std::uint32_t count = pass.counts[span * kDigits + digit];
    all += count;
    before += span < static_cast<int>(blockIdx.x) ? count : 0;
  }
  scratch[part][digit] = all;
  scratch[kParts + part][digit] = before;
  __syncthreads();
  all = before = 0;
  if (thread < kDigits) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      all += scratch[p][digit];
      before += scratch[kParts + p][digit];
    }
  }
  std::uint32_t lower = 0;
  Scan(scan).ExclusiveSum(all, lower);
  if (thread < kDigits)
    base[digit] = lower + before;
}

// The lanes with this lane's digit, of those that are `valid`.
__device__ unsigned int lanes_like(unsigned int digit, bool valid) {
  unsigned int lanes = __ballot_sync(~0U, valid);
#pragma unroll
  for (int bit = 0; bit < kDigitBits; ++bit) {
    const bool set = (digit >> bit & 1U) != 0;
    const unsigned int votes = __ballot_sync(~0U, set);
    lanes &= set ? votes : ~votes;
  }
  return lanes;
}

__global__ void __launch_bounds__(kThreads) scatter_kernel(Pass pass) {
  // First how many entries of a warp have a digit, then where the warp's first of them goes.
  __shared__ std::uint32_t slots[kWarps][kDigits];
  __shared__ std::uint32_t base[kDigits];
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int warp = thread / kWarp;
  const unsigned int lanes_below = (1U << lane) - 1;
  allow_next_kernel();
  await_kernel_before();
  find_bases(pass, slots, base);

  const std::int64_t end = min((blockIdx.x + 1) * pass.span, pass.count);
  for (std::int64_t begin = blockIdx.x * pass.span; begin < end; begin += kBatch) {
    __syncthreads();
    for (int i = thread; i < kWarps * kDigits; i += kThreads) slots[i / kDigits][i % kDigits] = 0;
    // A warp has neighbours, in the order of (round, lane).
    const std::int64_t first = begin + warp * kWarp * kPerThread + lane;
    IdEntry entry[kPerThread];
    std::uint32_t rank[kPerThread];
#pragma unroll
    for (int round = 0; round < kPerThread; ++round) {
      const std::int64_t i = first + round * kWarp;
      entry[round] = i < end ? pass.entry(i) : IdEntry{};
    }
    __syncthreads();
#pragma unroll
    for (int round = 0; round < kPerThread; ++round) {
      const bool valid = first + round * kWarp < end;
      const unsigned int digit = pass.digit(entry[round]);
      const unsigned int like = lanes_like(digit, valid);
      const std::uint32_t earlier = slots[warp][digit];
      rank[round] = earlier + static_cast<std::uint32_t>(__popc(like & lanes_below));
      __syncwarp();
      if (valid && (like & lanes_below) == 0)
        slots[warp][digit] = earlier + static_cast<std::uint32_t>(__popc(like));
      __syncwarp();
    }
    __syncthreads();
    if (thread < kDigits) {
      std::uint32_t next = base[thread];
#pragma unroll 8
      for (auto& of_warp : slots) {
        const std::uint32_t entries = of_warp[thread];
        of_warp[thread] = next;
        next += entries;
      }
      base[thread] = next;
    }
    __syncthreads();
#pragma unroll
    for (int round = 0; round < kPerThread; ++round) {
      if (first + round * kWarp < end)
        pass.to[slots[warp][pass.digit(entry[round])] + rank[round]] = entry[round];
    }
  }
}

__global__ void ranges_kernel(const IdEntry* entries, IdRange* ranges, std::int64_t count) {
  allow_next_kernel();
  await_kernel_before();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count)
    return;
  const std::uint32_t id = entries[i].id;
  if (i == 0 || entries[i - 1].id != id)
    ranges[id].begin = static_cast<std::int32_t>(i);
  if (i + 1 == count || entries[i + 1].id != id)
    ranges[id].end = static_cast<std::int32_t>(i + 1);
}

IdEntry* entries_in(Tensor& list) {
  return static_cast<IdEntry*>(list.view().data);
}

// Sorts by id; a pass keeps the order of what has the same digit.
void sort(Cuda backend, IdGroups& groups) {
  const std::int64_t count = groups.ids.numel();
  const std::int64_t span = ceil_div(ceil_div(count, kBatch), kMostSpans) * kBatch;
  const auto spans = static_cast<unsigned int>(ceil_div(count, span));
  Tensor& from = groups.entries;
  Tensor to = Tensor::empty(from.shape(), DType::kInt32, backend.stream);
  Tensor counts = Tensor::empty({spans, kDigits}, DType::kInt32, backend.stream);
  const int bits = std::bit_width(static_cast<std::uint32_t>(groups.rows));
  for (int shift = 0; shift < bits; shift += kDigitBits) {
    const Pass pass{.ids = shift == 0 ? groups.ids.data<std::int32_t>() : nullptr,
                    .from = entries_in(from),
                    .to = entries_in(to),
                    .counts = reinterpret_cast<std::uint32_t*>(counts.data<std::int32_t>()),
                    .count = count,
                    .span = span,
                    .rows = static_cast<std::uint32_t>(groups.rows),
                    .shift = shift};
    if (shift == 0) {
      count_kernel<<<spans, kThreads, 0, native(backend)>>>(pass);
      check_launch("group_ids");
    } else {
      launch_dependent(backend, count_kernel, spans, kThreads, 0, pass);
    }
    launch_dependent(backend, scatter_kernel, spans, kThreads, 0, pass);
    std::swap(from, to);
  }
  groups.scratch = {to, counts};
}

}  // namespace

IdGroups group_ids(Cuda backend, const Tensor& ids, std::int64_t rows) {
  const std::int64_t count = ids.numel();
  constexpr std::int64_t kMost = 1 << 30;  // so that what is added to a place stays an int32
  require<ShapeError>(std::max(count, rows) <= kMost,
                      "[group_ids] got {} ids of {} rows, expected at most 2³⁰", count, rows);
  IdGroups groups;
  groups.ids = ids;
  groups.rows = rows;
  // First: nothing comes between the kernels.
  groups.ranges = Tensor::zeros({rows + 1, 2}, DType::kInt32, backend.stream);
  groups.entries = Tensor::empty({count, 2}, DType::kInt32, backend.stream);
  if (count == 0)
    return groups;
  sort(backend, groups);
  launch_dependent(backend, ranges_kernel, static_cast<unsigned int>(ceil_div(count, kThreads)),
                   kThreads, 0, entries_of(groups),
                   static_cast<IdRange*>(groups.ranges.view().data), count);
  return groups;
}

}  // namespace hew::kernels
