#pragma once

#include <array>
#include <memory>

#include "core/rng.h"
#include "sparsity/pattern.h"

namespace hew::test {

struct FeedForwardSize {
  std::int64_t tokens, width, hidden, out, block;
};
/// Ragged in all directions, one token, and blocks wider than a matrix.
inline constexpr std::array kFeedForwardSizes{FeedForwardSize{5, 13, 19, 11, 8},
                                              FeedForwardSize{1, 17, 33, 16, 16},
                                              FeedForwardSize{3, 7, 40, 9, 32}};

/// Each block live by half a chance, the first one always.
inline sparsity::PatternPtr half_live(const sparsity::BlockGrid& grid, std::uint64_t seed,
                                      const Stream& stream) {
  sparsity::MaskBytes mask;
  for (std::int64_t b = 0; b < grid.blocks(); ++b) {
    mask.push_back(uniform(seed, 0, static_cast<std::uint64_t>(b)) < 0.5 ? 1 : 0);
  }
  mask.front() = 1;
  return std::make_shared<const sparsity::BsrPattern>(grid, mask, stream);
}

}  // namespace hew::test
