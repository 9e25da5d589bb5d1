#include "kernels/patches.h"

namespace hew::kernels {

template <class T>
void patches(Cpu /*backend*/, const Patches& args) {
  const std::int64_t channels = args.images.shape[1];
  const std::int64_t height = args.images.shape[2];
  const std::int64_t width = args.images.shape[3];
  const std::int64_t p = args.size;
  const std::int64_t down = height / p;
  const std::int64_t across = width / p;
  const std::int64_t length = channels * p * p;
  const auto* images = args.images.as<float>();
#pragma omp parallel for
  for (std::int64_t row = 0; row < args.y.shape[0]; ++row) {
    const std::int64_t image = row / (down * across);
    const std::int64_t i = row / across % down;
    const std::int64_t j = row % across;
    T* to = args.y.as<T>() + row * length;
    for (std::int64_t c = 0; c < channels; ++c) {
      const float* from = images + ((image * channels + c) * height + i * p) * width + j * p;
      for (std::int64_t u = 0; u < p; ++u, from += width) {
        for (std::int64_t v = 0; v < p; ++v) *to++ = static_cast<T>(from[v]);
      }
    }
  }
}

template void patches<float>(Cpu, const Patches&);
template void patches<double>(Cpu, const Patches&);

}  // namespace hew::kernels
