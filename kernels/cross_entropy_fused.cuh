#pragma once

#include "kernels/cross_entropy_rows.cuh"

/// Losses and the gradient of the logits, which takes their place, in one pass over device memory.
namespace hew::kernels {

template <class D>
struct FusedRows {
  D* logits;
  const std::int32_t* targets;
  const ComputeType<D>* weight;
  ComputeType<D>* losses;
  std::int64_t tokens;
  int length;
};

/// 16 bytes from global to shared memory behind the program's back.
__device__ inline void copy_ahead(uint4* to, const void* from) {
  const auto address = static_cast<unsigned int>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

template <class D>
__device__ Pack<D, kPackSize<D>> as_pack(const uint4& bytes) {
  return *reinterpret_cast<const Pack<D, kPackSize<D>>*>(&bytes);
}

/// The largest of the first and of the second halves of four pairs. A NaN gives way.
__device__ inline __nv_bfloat162 largest_pair(const uint4& bytes) {
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&bytes);
  return __hmax2(__hmax2(pairs[0], pairs[1]), __hmax2(pairs[2], pairs[3]));
}

/// Every row is read from memory once. A thread owns every kThreads-th pack of each row and its
/// place in shared memory; as it writes the gradient of one row, it lets the next row's pack
/// follow.
template <int kThreads, class D>
__global__ __launch_bounds__(kThreads, 1024 / kThreads) void fused_kernel(FusedRows<D> args) {
  constexpr int n = kPackSize<D>;
  extern __shared__ uint4 kept[];
  const auto thread = static_cast<int>(threadIdx.x);
  const int length = args.length;
  const ComputeType<D> weight = *args.weight;
  std::int64_t m = blockIdx.x;
  if (m >= args.tokens)
    return;
  int target = args.targets[m];
  {
    const D* row = args.logits + m * length;
    const RowParts<D, n> parts(row, length);
    for (int i = thread; i < parts.packs; i += kThreads) {
      copy_ahead(kept + i, row + parts.head + i * n);
    }
  }
  while (m < args.tokens) {
    D* row = args.logits + m * length;
    const RowParts<D, n> parts(row, length);
    const int edge = parts.edge(length);
    const D edge_logit = edge >= 0 ? row[edge] : D(0);
    const ComputeType<D> at_target = target_logit<D>(row, length, target);

    // largest and sum
    await_copies();
    Statistics<D> statistics;
#pragma unroll 4
    for (int i = thread; i < parts.packs; i += kThreads) statistics.add(as_pack<D>(kept[i]));
    if (edge >= 0)
      statistics.add(edge_logit);
    const ComputeType<D> lse = statistics.template log_sum<kThreads>();
    if (thread == 0)
      args.losses[m] = target == kIgnoredTarget ? ComputeType<D>(0) : lse - at_target;

    // gradient out, next row in
    const RowGradient<D> gradient(target, length, lse, weight);
    m += gridDim.x;
    const bool more = m < args.tokens;
    const D* next = args.logits + (more ? m : 0) * length;
    const RowParts<D, n> next_parts(next, length);
    const int next_packs = more ? next_parts.packs : 0;
    const D* next_body = next + next_parts.head;
    if (more)
      target = args.targets[m];
    int i = thread;
#pragma unroll 2
    for (; i < parts.packs; i += kThreads) {
      const int index = parts.head + i * n;
      *reinterpret_cast<Pack<D, n>*>(row + index) = gradient.of(index, as_pack<D>(kept[i]));
      if (i < next_packs)
        copy_ahead(kept + i, next_body + i * n);
    }
    if (i < next_packs)
      copy_ahead(kept + i, next_body + i * n);
    if (edge >= 0)
      row[edge] = gradient.of(edge, edge_logit);
  }
}

/// Every row is read from memory once. A block has a multiprocessor to itself: one row is in its
/// registers and the next one on its way into shared memory, where a thread has its own places, so
/// that reading goes on while sums are made and gradients written. Rows are aligned; all threads
/// have kPacks packs, but for the last pack, which only some have.
template <int kThreads, int kPacks>
__global__ __launch_bounds__(kThreads,
                             1) void fused_register_kernel(FusedRows<__nv_bfloat16> args) {
  using D = __nv_bfloat16;
  using E = Exponential<D>;
  constexpr int n = kPackSize<D>;
  constexpr int kLast = kPacks - 1;
  constexpr unsigned int kTwoInfinities = 0xff80ff80U;  // negative, they add nothing
  extern __shared__ uint4 kept[];
  const auto thread = static_cast<int>(threadIdx.x);
  const int length = args.length;
  const bool has_last = kLast * kThreads + thread < length / n;
  const float weight = *args.weight;
  uint4* const places = kept + thread;
  std::int64_t m = blockIdx.x;
  if (m >= args.tokens)
    return;
  int target = args.targets[m];
  {
    const auto* from = reinterpret_cast<const uint4*>(args.logits + m * length) + thread;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (p < kLast || has_last)
        copy_ahead(places + p * kThreads, from + p * kThreads);
    }
  }
  while (m < args.tokens) {
    D* row = args.logits + m * length;
    const float at_target = target_logit<D>(row, length, target);
    uint4 held[kPacks];
    await_copies();
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (p < kLast || has_last) {
        held[p] = places[p * kThreads];
      } else {
        held[p] = make_uint4(kTwoInfinities, kTwoInfinities, kTwoInfinities, kTwoInfinities);
      }
    }

    // largest, of what is in the registers: the places are free for the next row
    Statistics<D> statistics;
    __nv_bfloat162 top = largest_pair(held[0]);
#pragma unroll
    for (int p = 1; p < kPacks; ++p) top = __hmax2(top, largest_pair(held[p]));
    const float either = max(widen(top.x), widen(top.y));
    statistics.largest = max(statistics.largest, either);
    m += gridDim.x;
    int next_target = kIgnoredTarget;
    if (m < args.tokens) {
      next_target = args.targets[m];
      const auto* from = reinterpret_cast<const uint4*>(args.logits + m * length) + thread;
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        if (p < kLast || has_last)
          copy_ahead(places + p * kThreads, from + p * kThreads);
      }
    }

    // sum
    float sums[n] = {};
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const Pack<D, n> pack = as_pack<D>(held[p]);
#pragma unroll
      for (int k = 0; k < n; ++k) sums[k] += E::of(widen(pack.lane[k]), statistics.largest);
    }
#pragma unroll
    for (int k = 0; k < n; ++k) statistics.sum += sums[k];
    const float lse = statistics.template log_sum<kThreads>();
    if (thread == 0)
      args.losses[m - gridDim.x] = target == kIgnoredTarget ? 0.0F : lse - at_target;

    // gradient
    const RowGradient<D> gradient(target, length, lse, weight);
    auto* to = reinterpret_cast<Pack<D, n>*>(row) + thread;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (p < kLast || has_last)
        to[p * kThreads] = gradient.of((p * kThreads + thread) * n, as_pack<D>(held[p]));
    }
    target = next_target;
  }
}

/// For rows that shared memory has no room for: the second time they come from the L2 cache, which
/// holds one row for every multiprocessor.
template <int kThreads, class D>
__global__ __launch_bounds__(kThreads) void fused_twice_kernel(FusedRows<D> args) {
  constexpr int n = kPackSize<D>;
  const int length = args.length;
  const ComputeType<D> weight = *args.weight;
  for (std::int64_t m = blockIdx.x; m < args.tokens; m += gridDim.x) {
    D* row = args.logits + m * length;
    const int target = args.targets[m];
    const RowParts<D, n> parts(row, length);
    const int edge = parts.edge(length);
    const ComputeType<D> at_target = target_logit<D>(row, length, target);
    Statistics<D> statistics;
    for_packs<kThreads>(row, parts, [&](int /*index*/, const auto& pack) { statistics.add(pack); });
    if (edge >= 0)
      statistics.add(row[edge]);
    const ComputeType<D> lse = statistics.template log_sum<kThreads>();
    if (threadIdx.x == 0)
      args.losses[m] = target == kIgnoredTarget ? ComputeType<D>(0) : lse - at_target;

    const RowGradient<D> gradient(target, length, lse, weight);
    for_packs<kThreads>(static_cast<const D*>(row), parts, [&](int index, const Pack<D, n>& pack) {
      *reinterpret_cast<Pack<D, n>*>(row + index) = gradient.of(index, pack);
    });
    if (edge >= 0)
      row[edge] = gradient.of(edge, row[edge]);
  }
}

}  // namespace hew::kernels
