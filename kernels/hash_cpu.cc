#include <cstring>

#include "kernels/hash.h"

namespace hew::kernels {

void hash_words(Cpu /*backend*/, const ConstView& x, const View& hash) {
  constexpr std::int64_t kWord = sizeof(std::uint64_t);
  const auto* bytes = static_cast<const std::byte*>(x.data);
  const std::int64_t count = x.numel() * size_of(x.dtype);
  const std::int64_t words = count / kWord;
  std::uint64_t sum = 0;
#pragma omp parallel for reduction(+ : sum) if (words > 4096)
  for (std::int64_t i = 0; i < words; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i * kWord, kWord);
    sum += mix_word(word, static_cast<std::uint64_t>(i));
  }
  if (count % kWord != 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + words * kWord, static_cast<std::size_t>(count % kWord));
    sum += mix_word(word, static_cast<std::uint64_t>(words));
  }
  *hash.as<std::int64_t>() = static_cast<std::int64_t>(sum);
}

}  // namespace hew::kernels
