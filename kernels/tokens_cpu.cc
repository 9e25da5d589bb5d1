#include "kernels/array_map.h"
#include "kernels/tokens.h"

namespace hew::kernels {
namespace {

// Fewer elements than this are not worth a second thread.
constexpr std::int64_t kParallel = 8192;

}  // namespace

template <class T>
void join_tokens(Cpu /*backend*/, const JoinTokens& args) {
  const std::int64_t tokens = args.y.shape[1];
  const std::int64_t width = args.y.shape[2];
  const std::int64_t front = tokens - args.x.shape[1];
#pragma omp parallel for if (args.y.numel() > kParallel)
  for (std::int64_t row = 0; row < args.y.shape[0] * tokens; ++row) {
    const std::int64_t b = row / tokens;
    const std::int64_t t = row % tokens;
    const T* from = t < front ? args.class_token.as<T>()
                              : args.x.as<T>() + (b * (tokens - front) + t - front) * width;
    ArrayMap<T>(args.y.as<T>() + row * width, width) =
        ConstArrayMap<T>(from, width) + ConstArrayMap<T>(args.positions.as<T>() + t * width, width);
  }
}

template <class T>
void mean_tokens(Cpu /*backend*/, const ConstView& x, const View& y) {
  const std::int64_t tokens = x.shape[1];
  const std::int64_t width = x.shape[2];
#pragma omp parallel for if (x.numel() > kParallel)
  for (std::int64_t b = 0; b < x.shape[0]; ++b) {
    ArrayMap<T> mean(y.as<T>() + b * width, width);
    mean.setZero();
    for (std::int64_t t = 0; t < tokens; ++t)
      mean += ConstArrayMap<T>(x.as<T>() + (b * tokens + t) * width, width);
    mean /= static_cast<T>(tokens);
  }
}

template <class T>
void mean_tokens_backward(Cpu /*backend*/, const ConstView& dy, const View& dx) {
  const std::int64_t tokens = dx.shape[1];
  const std::int64_t width = dx.shape[2];
  const T share = T(1) / static_cast<T>(tokens);
#pragma omp parallel for if (dx.numel() > kParallel)
  for (std::int64_t row = 0; row < dx.shape[0] * tokens; ++row) {
    ArrayMap<T>(dx.as<T>() + row * width, width) =
        share * ConstArrayMap<T>(dy.as<T>() + row / tokens * width, width);
  }
}

#define HEW_INSTANTIATE(T)                                          \
  template void join_tokens<T>(Cpu, const JoinTokens&);             \
  template void mean_tokens<T>(Cpu, const ConstView&, const View&); \
  template void mean_tokens_backward<T>(Cpu, const ConstView&, const View&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
