#include <algorithm>
#include <array>

#include "core/rng.h"
#include "kernels/dropout.h"

namespace hew::kernels {
namespace {

constexpr std::int64_t kChunk = 1024;
constexpr std::uint64_t kWords = 4;  // elements that share one draw of Philox

// words[i] ← the bits of uniform(key, stream, 4·first_draw + i) for i < 4·count. Neighbours share a
// counter; written out word by word, the loop over counters is vectorised.
void draw(const DropoutOptions& options, std::uint64_t first_draw, std::uint64_t count,
          std::uint32_t* words) {
  const std::uint64_t key = options.key;
  const std::uint64_t stream = options.stream;
#pragma omp simd
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto drawn = philox(key, stream, first_draw + i);
    words[kWords * i] = drawn[0];
    words[kWords * i + 1] = drawn[1];
    words[kWords * i + 2] = drawn[2];
    words[kWords * i + 3] = drawn[3];
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
    std::array<std::uint32_t, kChunk + 2 * kWords> words;
    draw(options, first / kWords, last / kWords - first / kWords + 1, words.data());
    const std::uint32_t* word = words.data() + first % kWords;
    const T* px = x.as<T>() + begin;
    T* py = y.as<T>() + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      const float uniform = static_cast<float>(word[i] >> 8U) * 0x1p-24F;
      py[i] = uniform >= p ? px[i] * kept : T(0);
    }
  }
}

template void dropout<float>(Cpu, const DropoutOptions&, const ConstView&, const View&);
template void dropout<double>(Cpu, const DropoutOptions&, const ConstView&, const View&);

}  // namespace hew::kernels
