#pragma once

#include <limits>

#include "kernels/fast_math.cuh"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

/// What the kernels of the cross entropy do with a row of logits.
namespace hew::kernels {

/// e^(x − shift).
template <class D>
struct Exponential {
  using A = ComputeType<D>;
  static __device__ A of(A x, A shift) { return exp(x - shift); }
};

/// For bfloat16 the hardware's is more than enough.
template <>
struct Exponential<__nv_bfloat16> {
  static __device__ float of(float x, float shift) { return exp_fast(x - shift); }
};

/// How a row falls into aligned packs of n: `head` elements before them, `tail` after them.
template <class D, int n>
struct RowParts {
  int head;
  int packs;
  int tail;

  __device__ RowParts(const D* row, int length) {
    const auto past = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) / sizeof(D) % n);
    head = min((n - past) % n, length);
    packs = (length - head) / n;
    tail = length - head - packs * n;
  }

  // Head and tail together have fewer elements than 2n, one a thread: its index in the row, or −1.
  __device__ int edge(int length) const {
    const auto thread = static_cast<int>(threadIdx.x);
    if (thread < head)
      return thread;
    return thread < head + tail ? length - tail + thread - head : -1;
  }
};

/// each(index in the row, pack) for the packs of this thread; several are loaded before the first
/// is used.
template <int kThreads, int n, class D, class Each>
__device__ void for_packs(const D* row, const RowParts<D, n>& parts, const Each& each) {
  constexpr int kAhead = 4;
  const auto* body = reinterpret_cast<const Pack<D, n>*>(row + parts.head);
  int i = static_cast<int>(threadIdx.x);
  for (; i + (kAhead - 1) * kThreads < parts.packs; i += kAhead * kThreads) {
    Pack<D, n> ahead[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) ahead[j] = body[i + j * kThreads];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) each(parts.head + (i + j * kThreads) * n, ahead[j]);
  }
  for (; i < parts.packs; i += kThreads) each(parts.head + i * n, body[i]);
}

/// The largest of some logits and Σ e^(logit − largest). A NaN goes into the sum.
template <class D>
struct Statistics {
  using A = ComputeType<D>;
  using E = Exponential<D>;
  A largest = std::numeric_limits<A>::lowest();  // finite, so that −∞ less this is no NaN
  A sum = 0;

  template <int n>
  __device__ void add(const Pack<D, n>& pack) {
    A x[n];
    A top = largest;
#pragma unroll
    for (int k = 0; k < n; ++k) {
      x[k] = widen(pack.lane[k]);
      top = x[k] > top ? x[k] : top;
    }
    if (top > largest) {
      sum *= E::of(largest, top);
      largest = top;
    }
#pragma unroll
    for (int k = 0; k < n; ++k) x[k] = E::of(x[k], top);
#pragma unroll
    for (int width = n / 2; width > 0; width /= 2) {
#pragma unroll
      for (int k = 0; k < width; ++k) x[k] += x[k + width];
    }
    sum += x[0];
  }

  __device__ void add(D value) {
    add<1>(Pack<D, 1>{{value}});
  }

  // log Σ e^logit over what all threads of the block hold. All have read it before any goes on.
  template <int kThreads>
  __device__ A log_sum() const {
    const A top = block_max<kThreads>(largest);
    return top + log(block_sum<kThreads>(sum * E::of(largest, top)));
  }
};

/// What turns a logit into its gradient. Targets that do not exist give NaN.
template <class D>
struct RowGradient {
  using A = ComputeType<D>;
  int target;
  A lse;
  A factor;

  __device__ RowGradient(int row_target, int length, A row_lse, A weight)
      : target(row_target), lse(row_lse), factor(weight) {
    if (target != kIgnoredTarget && (target < 0 || target >= length))
      factor = std::numeric_limits<A>::quiet_NaN();
  }

  // Of the pack whose first element has this index in the row.
  template <int n>
  __device__ Pack<D, n> of(int index, const Pack<D, n>& logits) const {
    A g[n];
    if (target == kIgnoredTarget) {
#pragma unroll
      for (int k = 0; k < n; ++k) g[k] = 0;
    } else {
#pragma unroll
      for (int k = 0; k < n; ++k) {
        g[k] = factor * Exponential<D>::of(widen(logits.lane[k]), lse);
      }
      const int hit = target - index;
      if (hit >= 0 && hit < n) {
#pragma unroll
        for (int k = 0; k < n; ++k) g[k] -= k == hit ? factor : A(0);
      }
    }
    Pack<D, n> out;
#pragma unroll
    for (int k = 0; k < n; ++k) out.lane[k] = narrow<D>(g[k]);
    return out;
  }

  __device__ D of(int index, D logit) const {
    return of<1>(index, Pack<D, 1>{{logit}}).lane[0];
  }
};

/// The target's logit; NaN for one that does not exist. Asked for early, it arrives in time.
template <class D>
__device__ ComputeType<D> target_logit(const D* row, int length, int target) {
  if (target < 0 || target >= length)
    return std::numeric_limits<ComputeType<D>>::quiet_NaN();
  return widen(row[target]);
}

}  // namespace hew::kernels
