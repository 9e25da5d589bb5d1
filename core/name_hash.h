#pragma once

#include <cstdint>
#include <string_view>

namespace hew {

/// 64-bit FNV-1a of a name: the random stream under which things of that name are drawn.
constexpr std::uint64_t name_hash(std::string_view name) {
  constexpr std::uint64_t kOffset = 14695981039346656037U;
  constexpr std::uint64_t kPrime = 1099511628211U;
  std::uint64_t hash = kOffset;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * kPrime;
  return hash;
}

}  // namespace hew
