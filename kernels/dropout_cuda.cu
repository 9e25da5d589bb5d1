#include "core/rng.h"
#include "kernels/dropout.h"
#include "kernels/map.cuh"

namespace hew::kernels {
namespace {

constexpr int kWords = 4;  // elements that share one draw of Philox

template <class A>
struct Drop {
  std::uint64_t key;
  std::uint64_t stream;
  std::uint64_t first_element;  // a multiple of kWords for packs
  float p;
  A kept;

  __device__ A apply(std::uint32_t word, A x) const {
    return static_cast<float>(word >> 8U) * 0x1p-24F >= p ? x * kept : A(0);
  }

  template <int n>
  __device__ void operator()(std::int64_t i, const A (&in)[1][n], A (&out)[1][n]) const {
    const std::uint64_t element = first_element + static_cast<std::uint64_t>(i);
    if constexpr (n % kWords == 0) {
#pragma unroll
      for (int j = 0; j < n; j += kWords) {
        const auto words = philox(key, stream, element / kWords + j / kWords);
#pragma unroll
        for (int k = 0; k < kWords; ++k) out[0][j + k] = apply(words[k], in[0][j + k]);
      }
    } else {
      // Element by element, or 2 doubles of one draw.
      const auto words = philox(key, stream, element / kWords);
#pragma unroll
      for (int j = 0; j < n; ++j) {
        const auto at = static_cast<int>(element % kWords) + j;
        std::uint32_t word = words[0];
#pragma unroll
        for (int k = 1; k < kWords; ++k) word = at == k ? words[k] : word;
        out[0][j] = apply(word, in[0][j]);
      }
    }
  }
};

}  // namespace

template <class T>
void dropout(Cuda backend, const DropoutOptions& options, const ConstView& x, const View& y) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  const Drop<A> drop{.key = options.key,
                     .stream = options.stream,
                     .first_element = options.first_element,
                     .p = static_cast<float>(options.p),
                     .kept = A(1) / (A(1) - static_cast<A>(options.p))};
  map<D>(backend, "dropout", {elements<T>(x)}, {elements<T>(y)}, x.numel(), drop,
         options.first_element % kWords == 0);
}

template void dropout<float>(Cuda, const DropoutOptions&, const ConstView&, const View&);
template void dropout<double>(Cuda, const DropoutOptions&, const ConstView&, const View&);
template void dropout<BFloat16>(Cuda, const DropoutOptions&, const ConstView&, const View&);

}  // namespace hew::kernels
