#include <cmath>

#include "kernels/sgd.h"

namespace hew::kernels {
namespace {

// Shorter tensors are not worth waking the threads.
constexpr std::int64_t kParallelFrom = 8192;

template <class T>
void update(const SgdStep& settings, const SgdTensors& tensors, T scale) {
  const std::int64_t n = tensors.w.numel();
  const auto lr = static_cast<T>(settings.lr * tensors.lr_factor);
  const auto momentum = static_cast<T>(settings.momentum);
  const auto decay = static_cast<T>(tensors.weight_decay);
  // The direction is a·d + b·buffer.
  const T a = settings.nesterov ? T{1} : T{0};
  const T b = settings.nesterov ? momentum : T{1};
  const T* pg = tensors.g.as<T>();
  T* pw = tensors.w.as<T>();
  if (!tensors.buffer) {
#pragma omp parallel for simd if (n > kParallelFrom)
    for (std::int64_t i = 0; i < n; ++i) pw[i] -= lr * (scale * pg[i] + decay * pw[i]);
  } else {
    T* pb = tensors.buffer.as<T>();
#pragma omp parallel for simd if (n > kParallelFrom)
    for (std::int64_t i = 0; i < n; ++i) {
      const T d = scale * pg[i] + decay * pw[i];
      pb[i] = momentum * pb[i] + d;
      pw[i] -= lr * (a * d + b * pb[i]);
    }
  }
  if (tensors.working) {
    BFloat16* rounded = tensors.working.as<BFloat16>();
    for (std::int64_t i = 0; i < n; ++i) rounded[i] = BFloat16(static_cast<float>(pw[i]));
  }
}

}  // namespace

template <class T>
void sgd(Cpu /*backend*/, const SgdStep& settings, std::span<const SgdTensors> tensors) {
  const double grad_scale = settings.grad_scale ? *settings.grad_scale.as<double>() : 1;
  if (!std::isfinite(grad_scale))
    return;
  for (const SgdTensors& one : tensors) update<T>(settings, one, static_cast<T>(grad_scale));
}

template void sgd<float>(Cpu, const SgdStep&, std::span<const SgdTensors>);
template void sgd<double>(Cpu, const SgdStep&, std::span<const SgdTensors>);

}  // namespace hew::kernels
