#pragma once

#include <cassert>
#include <cstdint>

#include "core/rng.h"

namespace hew {

/// What a random number of a sample is for; each has numbers of its own.
enum class ImageDraw : std::uint32_t { kCrop, kPad, kFlip, kRandAugment, kErase, kMix };

/// The random numbers that belong to training sample `position`, or to the step that begins there:
/// functions of (seed, position, draw, k) alone.
struct ImageDraws {
  std::uint64_t seed = 0;
  std::int64_t position = 0;

  /// Number k < 64 in [0, 1).
  double uniform(ImageDraw draw, std::uint64_t k) const {
    constexpr std::uint64_t kStream = 0x494d4147ULL << 32U;  // of its own among a seed's streams
    constexpr std::uint64_t kNumbers = 64;
    assert(k < kNumbers);
    const auto words = philox(seed, kStream | static_cast<std::uint32_t>(draw),
                              static_cast<std::uint64_t>(position) * kNumbers + k);
    const std::uint64_t word = (static_cast<std::uint64_t>(words[1]) << 32U) | words[0];
    return static_cast<double>(word >> 11U) * 0x1p-53;
  }
  /// In [low, high).
  double uniform(ImageDraw draw, std::uint64_t k, double low, double high) const {
    return low + (high - low) * uniform(draw, k);
  }
  /// An integer in [0, bound).
  std::int64_t below(ImageDraw draw, std::uint64_t k, std::int64_t bound) const {
    return static_cast<std::int64_t>(uniform(draw, k) * static_cast<double>(bound));
  }
};

}  // namespace hew
