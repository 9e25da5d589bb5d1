#pragma once

#include <bit>
#include <cassert>
#include <cstdint>

#include "core/rng.h"

namespace hew {

/// Where `index` goes in the shuffle of [0, n) that (seed, epoch) names: a bijection that holds
/// nothing in memory. A balanced Feistel network (Luby and Rackoff 1988) over the smallest even
/// number of bits that hold n, with Philox as its round function, is applied until the image falls
/// below n; that takes fewer than four steps on average.
inline std::int64_t shuffled(std::uint64_t seed, std::int64_t epoch, std::int64_t n,
                             std::int64_t index) {
  assert(index >= 0 && index < n);
  constexpr std::uint64_t kRounds = 8;
  constexpr std::uint64_t kStream = 0x53485546ULL << 32U;  // of its own among a seed's streams
  const auto size = static_cast<std::uint64_t>(n);
  const auto half_bits = static_cast<unsigned>(std::bit_width(size - 1) + 1) / 2;
  const std::uint64_t mask = (1ULL << half_bits) - 1;
  auto value = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = value >> half_bits;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t stream = kStream + static_cast<std::uint64_t>(epoch) * kRounds + round;
      const std::uint64_t mixed = left ^ (philox(seed, stream, right)[0] & mask);
      left = right;
      right = mixed;
    }
    value = (left << half_bits) | right;
  } while (value >= size);
  return static_cast<std::int64_t>(value);
}

}  // namespace hew
