#include "kernels/sgd.h"

namespace hew::kernels {
namespace {

// Shorter tensors are not worth waking the threads.
constexpr std::int64_t kParallelFrom = 8192;

}  // namespace

template <class T>
void sgd(Cpu /*backend*/, const SgdStep& settings, const ConstView& g, const View& w,
         const View& buffer) {
  const std::int64_t n = w.numel();
  const auto lr = static_cast<T>(settings.lr);
  const auto momentum = static_cast<T>(settings.momentum);
  const auto decay = static_cast<T>(settings.weight_decay);
  const auto scale = static_cast<T>(settings.grad_scale);
  // The direction is a·d + b·buffer.
  const T a = settings.nesterov ? T{1} : T{0};
  const T b = settings.nesterov ? momentum : T{1};
  const T* pg = g.as<T>();
  T* pw = w.as<T>();
  if (!buffer) {
#pragma omp parallel for simd if (n > kParallelFrom)
    for (std::int64_t i = 0; i < n; ++i) pw[i] -= lr * (scale * pg[i] + decay * pw[i]);
    return;
  }
  T* pb = buffer.as<T>();
#pragma omp parallel for simd if (n > kParallelFrom)
  for (std::int64_t i = 0; i < n; ++i) {
    const T d = scale * pg[i] + decay * pw[i];
    pb[i] = momentum * pb[i] + d;
    pw[i] -= lr * (a * d + b * pb[i]);
  }
}

template void sgd<float>(Cpu, const SgdStep&, const ConstView&, const View&, const View&);
template void sgd<double>(Cpu, const SgdStep&, const ConstView&, const View&, const View&);

}  // namespace hew::kernels
