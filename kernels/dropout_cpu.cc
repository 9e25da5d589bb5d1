#include <algorithm>
#include <array>

#include "core/rng.h"
#include "kernels/dropout.h"

namespace hew::kernels {
namespace {

constexpr std::int64_t kChunk = 1024;
constexpr std::uint64_t kWords = 4;  // elements that share one draw of Philox

// uniforms[i] ← uniform(key, stream, 4·first_draw + i) for i < 4·count: the draws of four
// neighbours come from one counter, and the loop over counters is vectorised.
void draw(const DropoutOptions& options, std::uint64_t first_draw, std::uint64_t count,
          float* uniforms) {
#pragma omp simd
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto words = philox(options.key, options.stream, first_draw + i);
    for (std::uint64_t j = 0; j < kWords; ++j) {
      uniforms[kWords * i + j] = static_cast<float>(words[j] >> 8U) * 0x1p-24F;
    }
  }
}

}  // namespace

template <class T>
void dropout(Cpu /*backend*/, const DropoutOptions& options, const ConstView& x, const View& y) {
  const std::int64_t n = x.numel();
  const auto p = static_cast<float>(options.p);
  const T kept = T(1) / (T(1) - static_cast<T>(options.p));
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const std::int64_t count = std::min(kChunk, n - begin);
    const std::uint64_t first = options.first_element + static_cast<std::uint64_t>(begin);
    const std::uint64_t last = first + static_cast<std::uint64_t>(count) - 1;
    std::array<float, kChunk + 2 * kWords> uniforms;
    draw(options, first / kWords, last / kWords - first / kWords + 1, uniforms.data());
    const float* u = uniforms.data() + first % kWords;
    const T* px = x.as<T>() + begin;
    T* py = y.as<T>() + begin;
    for (std::int64_t i = 0; i < count; ++i) py[i] = u[i] >= p ? px[i] * kept : T(0);
  }
}

template void dropout<float>(Cpu, const DropoutOptions&, const ConstView&, const View&);
template void dropout<double>(Cpu, const DropoutOptions&, const ConstView&, const View&);

}  // namespace hew::kernels
