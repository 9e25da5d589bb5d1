#include <cmath>

#include "kernels/array_map.h"
#include "kernels/soft_cross_entropy.h"

namespace hew::kernels {
namespace {

// Fewer elements than this are not worth a second thread.
constexpr std::int64_t kParallel = 8192;

// t' of one row.
template <class T>
Eigen::Array<T, Eigen::Dynamic, 1> smoothed(const ConstView& targets, std::int64_t row,
                                            double smoothing) {
  const std::int64_t classes = targets.shape[1];
  const ConstArrayMap<float> given(targets.as<float>() + row * classes, classes);
  return given.template cast<T>() * static_cast<T>(1 - smoothing) +
         static_cast<T>(smoothing / static_cast<double>(classes));
}

}  // namespace

template <class T>
void soft_cross_entropy(Cpu /*backend*/, const SoftCrossEntropy& args) {
  const std::int64_t rows = args.logits.shape[0];
  const std::int64_t classes = args.logits.shape[1];
#pragma omp parallel for if (args.logits.numel() > kParallel)
  for (std::int64_t m = 0; m < rows; ++m) {
    const ConstArrayMap<T> logits(args.logits.as<T>() + m * classes, classes);
    const auto target = smoothed<T>(args.targets, m, args.smoothing);
    const T largest = logits.maxCoeff();
    const T lse = largest + std::log((logits - largest).exp().sum());
    args.lse.as<T>()[m] = lse;
    args.mass.as<T>()[m] = target.sum();
    args.losses.as<T>()[m] = (target * (lse - logits)).sum();
  }
  double sum = 0;
  for (std::int64_t m = 0; m < rows; ++m) sum += static_cast<double>(args.losses.as<T>()[m]);
  *args.mean.as<T>() =
      rows == 0 ? T(0) : static_cast<T>(args.scale / static_cast<double>(rows) * sum);
}

template <class T>
void soft_cross_entropy_backward(Cpu /*backend*/, const SoftCrossEntropyBackward& args) {
  const std::int64_t rows = args.logits.shape[0];
  const std::int64_t classes = args.logits.shape[1];
  const T factor = *args.dmean.as<T>() * static_cast<T>(args.scale / static_cast<double>(rows));
#pragma omp parallel for if (args.logits.numel() > kParallel)
  for (std::int64_t m = 0; m < rows; ++m) {
    const ConstArrayMap<T> logits(args.logits.as<T>() + m * classes, classes);
    ArrayMap<T>(args.dlogits.as<T>() + m * classes, classes) =
        factor * (args.mass.as<T>()[m] * (logits - args.lse.as<T>()[m]).exp() -
                  smoothed<T>(args.targets, m, args.smoothing));
  }
}

#define HEW_INSTANTIATE(T)                                           \
  template void soft_cross_entropy<T>(Cpu, const SoftCrossEntropy&); \
  template void soft_cross_entropy_backward<T>(Cpu, const SoftCrossEntropyBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
