#include "core/rng.h"

#include <doctest/doctest.h>

namespace hew {

TEST_CASE("philox gives the published test vectors of Random123") {
  const auto zero = philox(0, 0, 0);
  CHECK(zero == std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const auto ones = philox(~0ULL, ~0ULL, ~0ULL);
  CHECK(ones == std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("uniform and normal have the right moments") {
  double mean = 0;
  double square = 0;
  double flat = 0;
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = normal(1, 2, static_cast<std::uint64_t>(i));
    mean += x / kDraws;
    square += x * x / kDraws;
    flat += static_cast<double>(uniform(3, 4, static_cast<std::uint64_t>(i))) / kDraws;
  }
  // Five standard errors: 5/√200000 ≈ 0.011.
  CHECK(std::abs(mean) <= 0.012);
  CHECK(std::abs(square - 1) <= 0.016);
  CHECK(std::abs(flat - 0.5) <= 0.0035);
}

}  // namespace hew
