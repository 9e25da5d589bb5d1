#include "data/shuffle.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

namespace hew {
namespace {

std::vector<std::int64_t> order(std::uint64_t seed, std::int64_t epoch, std::int64_t n) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(shuffled(seed, epoch, n, i));
  return out;
}

}  // namespace

TEST_CASE("shuffled is a permutation") {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 16, 17, 255, 257, 1009, 100000}) {
    CAPTURE(n);
    std::vector<bool> seen(static_cast<std::size_t>(n));
    std::int64_t hits = 0;
    for (const std::int64_t image : order(7, 3, n)) {
      REQUIRE(image >= 0);
      REQUIRE(image < n);
      hits += seen[static_cast<std::size_t>(image)] ? 0 : 1;
      seen[static_cast<std::size_t>(image)] = true;
    }
    CHECK(hits == n);
  }
}

TEST_CASE("shuffled depends on seed and epoch, and on nothing else") {
  CHECK(order(7, 3, 101) == order(7, 3, 101));
  CHECK(order(7, 3, 101) != order(8, 3, 101));
  CHECK(order(7, 3, 101) != order(7, 4, 101));
}

TEST_CASE("shuffled sends each index everywhere equally often") {
  constexpr std::int64_t kSize = 10;
  constexpr int kEpochs = 20000;
  std::vector<int> count(kSize * kSize);
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    for (std::int64_t i = 0; i < kSize; ++i) {
      ++count[static_cast<std::size_t>(i * kSize + shuffled(1, epoch, kSize, i))];
    }
  }
  // A count is binomial with mean 2000 and deviation 42; six deviations.
  for (const int c : count) CHECK(std::abs(c - kEpochs / kSize) <= 255);
}

TEST_CASE("shuffled takes sets far beyond memory") {
  constexpr std::int64_t kSize = (std::int64_t{1} << 40) + 9;
  for (std::int64_t i = 0; i < 100; ++i) {
    const std::int64_t image = shuffled(5, 0, kSize, kSize - 1 - i);
    CHECK(image >= 0);
    CHECK(image < kSize);
  }
}

}  // namespace hew
