#pragma once

#include <cstdint>

/// Linear layers that docs/results/bsr-h100.md has times of.
namespace hew::test {

struct Size {
  std::int64_t tokens, rows, cols;
};
inline constexpr Size kVitUp{50432, 3072, 768};
inline constexpr Size kVitDown{50432, 768, 3072};
inline constexpr Size kGpt2Xl{16384, 6400, 1600};
inline constexpr Size kLlamaUp{8192, 14336, 4096};
inline constexpr Size kLlamaDown{8192, 4096, 14336};

}  // namespace hew::test
