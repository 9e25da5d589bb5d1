#include "kernels/average.h"

namespace hew::kernels {
namespace {

// Shorter tensors are not worth waking the threads.
constexpr std::int64_t kParallelFrom = 8192;

}  // namespace

template <class T>
void move_averages(Cpu /*backend*/, std::span<const AverageTensors> tensors, double decay) {
  const auto old = static_cast<T>(decay);
  const auto fresh = static_cast<T>(1 - decay);
  for (const AverageTensors& one : tensors) {
    const std::int64_t n = one.value.numel();
    const T* value = one.value.as<T>();
    T* average = one.average.as<T>();
#pragma omp parallel for simd if (n > kParallelFrom)
    for (std::int64_t i = 0; i < n; ++i) average[i] = old * average[i] + fresh * value[i];
  }
}

template void move_averages<float>(Cpu, std::span<const AverageTensors>, double);
template void move_averages<double>(Cpu, std::span<const AverageTensors>, double);

}  // namespace hew::kernels
