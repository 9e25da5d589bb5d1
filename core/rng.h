#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define HEW_HOST_DEVICE __host__ __device__
#else
#define HEW_HOST_DEVICE
#endif

namespace hew {

/// Philox4x32-10 (Salmon et al. 2011): four random words that depend on (key, stream, index)
/// alone, so that any element can be drawn anywhere, in any order, on any device.
HEW_HOST_DEVICE inline std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t stream,
                                                           std::uint64_t index) {
  constexpr std::uint64_t kMul0 = 0xD2511F53U;
  constexpr std::uint64_t kMul1 = 0xCD9E8D57U;
  std::uint32_t c0 = static_cast<std::uint32_t>(index);
  std::uint32_t c1 = static_cast<std::uint32_t>(index >> 32U);
  std::uint32_t c2 = static_cast<std::uint32_t>(stream);
  std::uint32_t c3 = static_cast<std::uint32_t>(stream >> 32U);
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32U);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = kMul0 * c0;
    const std::uint64_t p1 = kMul1 * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32U) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32U) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {c0, c1, c2, c3};
}

/// Uniform in [0, 1), 24 bits, equal on every device.
HEW_HOST_DEVICE inline float uniform(std::uint64_t key, std::uint64_t stream, std::uint64_t index) {
  const std::uint32_t word = philox(key, stream, index / 4)[index % 4];
  return static_cast<float>(word >> 8U) * 0x1p-24F;
}

/// Standard normal by Box-Muller from the words of one counter.
inline double normal(std::uint64_t key, std::uint64_t stream, std::uint64_t index) {
  const auto words = philox(key, stream, index);
  const double u1 = (static_cast<double>(words[0]) + 1.0) * 0x1p-32;
  const double u2 = static_cast<double>(words[1]) * 0x1p-32;
  constexpr double kTwoPi = 6.283185307179586;
  return std::sqrt(-2.0 * std::log(u1)) * std::cos(kTwoPi * u2);
}

/// Integer in [0, bound), bound > 0; the bias of the modulo is below bound / 2^64.
inline std::uint64_t uniform_below(std::uint64_t key, std::uint64_t stream, std::uint64_t index,
                                   std::uint64_t bound) {
  const auto words = philox(key, stream, index);
  const std::uint64_t word = (static_cast<std::uint64_t>(words[1]) << 32U) | words[0];
  return word % bound;
}

}  // namespace hew
