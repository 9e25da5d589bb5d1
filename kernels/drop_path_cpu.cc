#include "core/rng.h"
#include "kernels/drop_path.h"

namespace hew::kernels {

template <class T>
void drop_path(Cpu /*backend*/, const DropPathOptions& options, const ConstView& x, const View& y) {
  const std::int64_t samples = x.shape[0];
  if (x.numel() == 0)
    return;
  const std::int64_t length = x.numel() / samples;
  const auto p = static_cast<float>(options.p);
#pragma omp parallel for
  for (std::int64_t b = 0; b < samples; ++b) {
    const bool keep = uniform(options.key, options.stream,
                              options.first_sample + static_cast<std::uint64_t>(b)) >= p;
    const T factor = keep ? T(1) / (T(1) - static_cast<T>(options.p)) : T(0);
    const T* from = x.as<T>() + b * length;
    T* to = y.as<T>() + b * length;
    for (std::int64_t i = 0; i < length; ++i) to[i] = keep ? factor * from[i] : T(0);
  }
}

template void drop_path<float>(Cpu, const DropPathOptions&, const ConstView&, const View&);
template void drop_path<double>(Cpu, const DropPathOptions&, const ConstView&, const View&);

}  // namespace hew::kernels
