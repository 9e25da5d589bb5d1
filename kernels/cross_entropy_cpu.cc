#include <algorithm>
#include <cmath>

#include "kernels/array_map.h"
#include "kernels/cross_entropy.h"

namespace hew::kernels {
namespace {

// Fewer elements than this are not worth a second thread.
constexpr std::int64_t kParallel = 8192;

}  // namespace

template <class T>
void token_losses(Cpu /*backend*/, const TokenLosses& args) {
  const std::int64_t tokens = args.logits.shape[0];
  const std::int64_t vocabulary = args.logits.shape[1];
  const std::int32_t* targets = args.targets.as<std::int32_t>();
#pragma omp parallel for if (args.logits.numel() > kParallel)
  for (std::int64_t m = 0; m < tokens; ++m) {
    const ConstArrayMap<T> logits(args.logits.as<T>() + m * vocabulary, vocabulary);
    const T largest = logits.maxCoeff();
    const T lse = largest + std::log((logits - largest).exp().sum());
    args.lse.as<T>()[m] = lse;
    args.losses.as<T>()[m] = targets[m] == kIgnoredTarget ? T(0) : lse - logits[targets[m]];
  }
}

template <class T>
void mean_loss(Cpu /*backend*/, const MeanLoss& args) {
  const std::int32_t* targets = args.targets.as<std::int32_t>();
  const T* losses = args.losses.as<T>();
  double sum = 0;
  std::int64_t counted = 0;
  for (std::int64_t m = 0; m < args.targets.numel(); ++m) {
    if (targets[m] == kIgnoredTarget)
      continue;
    sum += static_cast<double>(losses[m]);
    ++counted;
  }
  const double weight = counted == 0 ? 0 : args.scale / static_cast<double>(counted);
  *args.weight.as<T>() = static_cast<T>(weight);
  *args.mean.as<T>() = static_cast<T>(weight * sum);
}

template <class T>
void cross_entropy_backward(Cpu /*backend*/, const CrossEntropyBackward& args) {
  const std::int64_t tokens = args.logits.shape[0];
  const std::int64_t vocabulary = args.logits.shape[1];
  const std::int32_t* targets = args.targets.as<std::int32_t>();
  const T factor = *args.dmean.as<T>() * *args.weight.as<T>();
#pragma omp parallel for if (args.logits.numel() > kParallel)
  for (std::int64_t m = 0; m < tokens; ++m) {
    const ConstArrayMap<T> logits(args.logits.as<T>() + m * vocabulary, vocabulary);
    ArrayMap<T> dlogits(args.dlogits.as<T>() + m * vocabulary, vocabulary);
    if (targets[m] == kIgnoredTarget) {
      dlogits.setZero();
    } else {
      dlogits = factor * (logits - args.lse.as<T>()[m]).exp();
      dlogits[targets[m]] -= factor;
    }
  }
}

template <class T>
void fused_cross_entropy(Cpu /*backend*/, const FusedCrossEntropy& args) {
  const std::int64_t tokens = args.logits.shape[0];
  const std::int64_t vocabulary = args.logits.shape[1];
  const std::int32_t* targets = args.targets.as<std::int32_t>();
  const T weight = *args.weight.as<T>();
#pragma omp parallel for if (args.logits.numel() > kParallel)
  for (std::int64_t m = 0; m < tokens; ++m) {
    ArrayMap<T> logits(args.logits.as<T>() + m * vocabulary, vocabulary);
    T& loss = args.losses.as<T>()[m];
    if (targets[m] == kIgnoredTarget) {
      loss = T(0);
      logits.setZero();
      continue;
    }
    const T largest = logits.maxCoeff();
    const T lse = largest + std::log((logits - largest).exp().sum());
    loss = lse - logits[targets[m]];
    logits = weight * (logits - lse).exp();
    logits[targets[m]] -= weight;
  }
}

template <class T>
void target_weight(Cpu /*backend*/, const ConstView& targets, double scale, const View& weight) {
  const std::int32_t* target = targets.as<std::int32_t>();
  const std::int64_t ignored = std::count(target, target + targets.numel(), kIgnoredTarget);
  const std::int64_t counted = targets.numel() - ignored;
  *weight.as<T>() = counted == 0 ? T(0) : static_cast<T>(scale / static_cast<double>(counted));
}

#define HEW_INSTANTIATE(T)                                                   \
  template void token_losses<T>(Cpu, const TokenLosses&);                    \
  template void mean_loss<T>(Cpu, const MeanLoss&);                          \
  template void cross_entropy_backward<T>(Cpu, const CrossEntropyBackward&); \
  template void fused_cross_entropy<T>(Cpu, const FusedCrossEntropy&);       \
  template void target_weight<T>(Cpu, const ConstView&, double, const View&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
