#include <algorithm>

#include "kernels/array_map.h"
#include "kernels/swiglu.h"

namespace hew::kernels {
namespace {

// Long enough to amortise a thread's start, short enough to stay in its first-level cache.
constexpr std::int64_t kChunk = 1024;

template <class T>
using ChunkArray = Eigen::Array<T, Eigen::Dynamic, 1, Eigen::ColMajor, kChunk, 1>;

}  // namespace

template <class T>
void swiglu_forward(Cpu /*backend*/, const ConstView& gate, const ConstView& up, const View& y) {
  const std::int64_t n = gate.numel();
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const std::int64_t count = std::min(kChunk, n - begin);
    const ConstArrayMap<T> g(gate.as<T>() + begin, count);
    const ConstArrayMap<T> u(up.as<T>() + begin, count);
    ArrayMap<T>(y.as<T>() + begin, count) = u * g / (T(1) + (-g).exp());
  }
}

template <class T>
void swiglu_backward(Cpu /*backend*/, const SwigluBackward& args) {
  const std::int64_t n = args.gate.numel();
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const std::int64_t count = std::min(kChunk, n - begin);
    const ConstArrayMap<T> g(args.gate.as<T>() + begin, count);
    const ConstArrayMap<T> u(args.up.as<T>() + begin, count);
    const ConstArrayMap<T> dy(args.dy.as<T>() + begin, count);
    const ChunkArray<T> sigmoid = T(1) / (T(1) + (-g).exp());
    const ChunkArray<T> dup = dy * g * sigmoid;
    ArrayMap<T>(args.dgate.as<T>() + begin, count) =
        dy * u * sigmoid * (T(1) + g * (T(1) - sigmoid));
    ArrayMap<T>(args.dup.as<T>() + begin, count) = dup;
  }
}

#define HEW_INSTANTIATE(T)                                                               \
  template void swiglu_forward<T>(Cpu, const ConstView&, const ConstView&, const View&); \
  template void swiglu_backward<T>(Cpu, const SwigluBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
