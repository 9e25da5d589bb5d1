#include "kernels/cross_entropy.h"
#include "kernels/cross_entropy_fused.cuh"

namespace hew::kernels {
namespace {

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
