#include <limits>

#include "kernels/cross_entropy.h"
#include "kernels/fast_math.cuh"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

// e^(x − shift).
template <class D>
struct Exponential {
  using A = ComputeType<D>;
  static __device__ A of(A x, A shift) { return exp(x - shift); }
};

// For bfloat16 the hardware's is more than enough.
template <>
struct Exponential<__nv_bfloat16> {
  static __device__ float of(float x, float shift) { return exp_fast(x - shift); }
};

// How a row falls into aligned packs of n: `head` elements before them, `tail` after them.
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

// each(index in the row, pack) for the packs of this thread; several are loaded before the first
// is used.
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

// The largest of some logits and Σ e^(logit − largest). A NaN goes into the sum.
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

// What turns a logit into its gradient. Targets that do not exist give NaN.
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

// The target's logit; NaN for one that does not exist. Asked for early, it arrives in time.
template <class D>
__device__ ComputeType<D> target_logit(const D* row, int length, int target) {
  if (target < 0 || target >= length)
    return std::numeric_limits<ComputeType<D>>::quiet_NaN();
  return widen(row[target]);
}

template <int kThreads, class D>
__global__ __launch_bounds__(kThreads) void token_losses_kernel(const D* logits,
                                                                const std::int32_t* targets,
                                                                ComputeType<D>* losses,
                                                                ComputeType<D>* lses, int length) {
  const std::int64_t m = blockIdx.x;
  const D* row = logits + m * length;
  const RowParts<D, kPackSize<D>> parts(row, length);
  const int target = targets[m];
  const ComputeType<D> at_target = target_logit(row, length, target);
  Statistics<D> statistics;
  for_packs<kThreads>(row, parts, [&](int /*index*/, const auto& pack) { statistics.add(pack); });
  const int edge = parts.edge(length);
  if (edge >= 0)
    statistics.add(row[edge]);
  const ComputeType<D> lse = statistics.template log_sum<kThreads>();
  if (threadIdx.x == 0) {
    lses[m] = lse;
    losses[m] = target == kIgnoredTarget ? ComputeType<D>(0) : lse - at_target;
  }
}

template <class D>
struct BackwardRows {
  const D* logits;
  const std::int32_t* targets;
  const ComputeType<D>* lse;
  const ComputeType<D>* weight;
  const ComputeType<D>* dmean;
  D* dlogits;
  int length;
};

template <int kThreads, int n, class D>
__global__ __launch_bounds__(kThreads) void backward_kernel(BackwardRows<D> args) {
  const std::int64_t m = blockIdx.x;
  const D* row = args.logits + m * args.length;
  D* out = args.dlogits + m * args.length;
  const RowGradient<D> gradient(args.targets[m], args.length, args.lse[m],
                                *args.dmean * *args.weight);
  const RowParts<D, n> parts(row, args.length);
  for_packs<kThreads>(row, parts, [&](int index, const Pack<D, n>& pack) {
    *reinterpret_cast<Pack<D, n>*>(out + index) = gradient.of(index, pack);
  });
  const int edge = parts.edge(args.length);
  if (edge >= 0)
    out[edge] = gradient.of(edge, row[edge]);
}

template <class D>
struct FusedRows {
  D* logits;
  const std::int32_t* targets;
  const ComputeType<D>* weight;
  ComputeType<D>* losses;
  std::int64_t tokens;
  int length;
};

// 16 bytes from global to shared memory behind the program's back.
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

// The largest of the first and of the second halves of four pairs. A NaN gives way.
__device__ inline __nv_bfloat162 largest_pair(const uint4& bytes) {
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&bytes);
  return __hmax2(__hmax2(pairs[0], pairs[1]), __hmax2(pairs[2], pairs[3]));
}

// Every row is read from memory once. A thread owns every kThreads-th pack of each row and its
// place in shared memory; as it writes the gradient of one row, it lets the next row's pack follow.
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

// Every row is read from memory once. A block has a multiprocessor to itself: one row is in its
// registers and the next one on its way into shared memory, where a thread has its own places, so
// that reading goes on while sums are made and gradients written. Rows are aligned; all threads
// have kPacks packs, but for the last pack, which only some have.
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

// For rows that shared memory has no room for: the second time they come from the L2 cache, which
// holds one row for every multiprocessor.
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

constexpr int kNarrowThreads = 128;  // for rows of up to kNarrow elements
constexpr int kThreads = 512;
constexpr int kWideThreads = 1024;  // one block a multiprocessor
constexpr int kRegisterThreads = 640;
constexpr int kNarrow = 8192;

template <int threads, class D>
void launch_fused(Cuda backend, const FusedRows<D>& args, std::size_t bytes) {
  constexpr std::size_t kWithoutAsking = 48 << 10;
  const auto kernel = fused_kernel<threads, D>;
  if (bytes > kWithoutAsking) {
    cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(bytes)),
                "cudaFuncSetAttribute");
  }
  int resident = 0;
  cuda::check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, bytes),
              "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  const std::int64_t most =
      static_cast<std::int64_t>(std::max(1, resident)) * limits(backend).multiprocessors;
  const auto blocks = static_cast<unsigned int>(std::min(args.tokens, most));
  kernel<<<blocks, threads, bytes, native(backend)>>>(args);
}

template <int packs>
void launch_registers(Cuda backend, const FusedRows<__nv_bfloat16>& args, std::size_t bytes) {
  const auto kernel = fused_register_kernel<kRegisterThreads, packs>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(bytes)),
              "cudaFuncSetAttribute");
  const auto blocks = static_cast<unsigned int>(
      std::min<std::int64_t>(args.tokens, limits(backend).multiprocessors));
  kernel<<<blocks, kRegisterThreads, bytes, native(backend)>>>(args);
}

// With the number of packs of a thread as a constant. False if the rows are not for it.
template <int packs = 2>
bool fuse_in_registers(Cuda backend, const FusedRows<__nv_bfloat16>& args, std::size_t room) {
  constexpr int n = kPackSize<__nv_bfloat16>;
  constexpr int kMost = 11;                        // of 96 registers a thread
  static_assert(kNarrow >= kRegisterThreads * n);  // all packs but the last are full
  const auto bytes = static_cast<std::size_t>(args.length) * sizeof(__nv_bfloat16);
  if (args.length % n != 0 || !packable(args.logits) || args.length <= kNarrow || bytes > room)
    return false;
  if (args.length <= packs * kRegisterThreads * n) {
    launch_registers<packs>(backend, args, bytes);
    return true;
  }
  if constexpr (packs < kMost)
    return fuse_in_registers<packs + 1>(backend, args, room);
  return false;
}

constexpr int kSumThreads = 1024;

// One block. The order of the sum depends on the count alone.
template <class D>
__global__ void mean_loss_kernel(const D* losses, const std::int32_t* targets, std::int64_t count,
                                 double scale, D* mean, D* weight) {
  double sum = 0;
  int counted = 0;
#pragma unroll 8
  for (std::int64_t m = threadIdx.x; m < count; m += kSumThreads) {
    const bool counts = targets[m] != kIgnoredTarget;
    const auto loss = static_cast<double>(widen(losses[m]));
    sum += counts ? loss : 0;
    counted += counts ? 1 : 0;
  }
  sum = block_sum<kSumThreads>(sum);
  counted = block_sum<kSumThreads>(counted);
  if (threadIdx.x == 0) {
    const double factor = counted == 0 ? 0 : scale / counted;
    *weight = narrow<D>(static_cast<ComputeType<D>>(factor));
    *mean = narrow<D>(static_cast<ComputeType<D>>(factor * sum));
  }
}

template <class D>
__global__ void target_weight_kernel(const std::int32_t* targets, std::int64_t count, double scale,
                                     D* weight) {
  int counted = 0;
#pragma unroll 8
  for (std::int64_t m = threadIdx.x; m < count; m += kSumThreads) {
    counted += targets[m] != kIgnoredTarget ? 1 : 0;
  }
  counted = block_sum<kSumThreads>(counted);
  if (threadIdx.x == 0)
    *weight = narrow<D>(static_cast<ComputeType<D>>(counted == 0 ? 0 : scale / counted));
}

}  // namespace

template <class T>
void token_losses(Cuda backend, const TokenLosses& args) {
  const auto rows = static_cast<unsigned int>(args.logits.shape[0]);
  const auto length = static_cast<int>(args.logits.shape[1]);
  if (rows == 0)
    return;
  auto launch = [&](auto threads) {
    token_losses_kernel<threads.value><<<rows, threads.value, 0, native(backend)>>>(
        elements<T>(args.logits), args.targets.as<std::int32_t>(),
        elements<Accumulator<T>>(args.losses), elements<Accumulator<T>>(args.lse), length);
  };
  if (length <= kNarrow) {
    launch(std::integral_constant<int, kNarrowThreads>{});
  } else {
    launch(std::integral_constant<int, kThreads>{});
  }
  check_launch("cross_entropy");
}

template <class T>
void mean_loss(Cuda backend, const MeanLoss& args) {
  mean_loss_kernel<<<1, kSumThreads, 0, native(backend)>>>(
      elements<T>(args.losses), args.targets.as<std::int32_t>(), args.targets.numel(), args.scale,
      elements<T>(args.mean), elements<T>(args.weight));
  check_launch("mean_loss");
}

template <class T>
void cross_entropy_backward(Cuda backend, const CrossEntropyBackward& args) {
  using D = OnDevice<T>;
  const auto rows = static_cast<unsigned int>(args.logits.shape[0]);
  if (rows == 0)
    return;
  const BackwardRows<D> on_device{.logits = elements<T>(args.logits),
                                  .targets = args.targets.as<std::int32_t>(),
                                  .lse = elements<Accumulator<T>>(args.lse),
                                  .weight = elements<Accumulator<T>>(args.weight),
                                  .dmean = elements<Accumulator<T>>(args.dmean),
                                  .dlogits = elements<T>(args.dlogits),
                                  .length = static_cast<int>(args.logits.shape[1])};
  // Packs suit both rows where both begin equally far from an aligned address.
  const auto from = reinterpret_cast<std::uintptr_t>(on_device.logits);
  const auto to = reinterpret_cast<std::uintptr_t>(on_device.dlogits);
  auto launch = [&](auto n) {
    if (on_device.length <= kNarrow) {
      backward_kernel<kNarrowThreads, n.value>
          <<<rows, kNarrowThreads, 0, native(backend)>>>(on_device);
    } else {
      backward_kernel<kThreads, n.value><<<rows, kThreads, 0, native(backend)>>>(on_device);
    }
  };
  if (from % 16 == to % 16) {
    launch(std::integral_constant<int, kPackSize<D>>{});
  } else {
    launch(std::integral_constant<int, 1>{});
  }
  check_launch("cross_entropy_backward");
}

template <class T>
void fused_cross_entropy(Cuda backend, const FusedCrossEntropy& args) {
  using D = OnDevice<T>;
  const FusedRows<D> on_device{.logits = elements<T>(args.logits),
                               .targets = args.targets.as<std::int32_t>(),
                               .weight = elements<Accumulator<T>>(args.weight),
                               .losses = elements<Accumulator<T>>(args.losses),
                               .tokens = args.logits.shape[0],
                               .length = static_cast<int>(args.logits.shape[1])};
  if (on_device.tokens == 0)
    return;
  constexpr std::size_t kForReductions = 1024;  // static shared memory beside the row
  const std::size_t room = static_cast<std::size_t>(limits(backend).shared_memory) - kForReductions;
  if constexpr (sizeof(D) == 2) {
    if (fuse_in_registers(backend, on_device, room))
      return check_launch("fused_cross_entropy");
  }
  const std::size_t bytes = static_cast<std::size_t>(on_device.length / kPackSize<D>) * 16;
  if (bytes > room) {
    const auto blocks = static_cast<unsigned int>(
        std::min<std::int64_t>(on_device.tokens, limits(backend).multiprocessors));
    fused_twice_kernel<kWideThreads><<<blocks, kWideThreads, 0, native(backend)>>>(on_device);
  } else if (on_device.length <= kNarrow) {
    launch_fused<kNarrowThreads>(backend, on_device, bytes);
  } else {
    launch_fused<kThreads>(backend, on_device, bytes);
  }
  check_launch("fused_cross_entropy");
}

template <class T>
void target_weight(Cuda backend, const ConstView& targets, double scale, const View& weight) {
  target_weight_kernel<<<1, kSumThreads, 0, native(backend)>>>(
      targets.as<std::int32_t>(), targets.numel(), scale, elements<T>(weight));
  check_launch("target_weight");
}

#define HEW_CROSS_ENTROPY(T)                                                  \
  template void token_losses<T>(Cuda, const TokenLosses&);                    \
  template void mean_loss<T>(Cuda, const MeanLoss&);                          \
  template void cross_entropy_backward<T>(Cuda, const CrossEntropyBackward&); \
  template void fused_cross_entropy<T>(Cuda, const FusedCrossEntropy&);       \
  template void target_weight<T>(Cuda, const ConstView&, double, const View&);
HEW_CROSS_ENTROPY(float)
HEW_CROSS_ENTROPY(double)
HEW_CROSS_ENTROPY(BFloat16)
#undef HEW_CROSS_ENTROPY

}  // namespace hew::kernels
