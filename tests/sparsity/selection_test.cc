#include "sparsity/selection.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"

namespace hew::sparsity {
namespace {

std::int64_t count(const MaskBytes& mask) {
  return std::accumulate(mask.begin(), mask.end(), std::int64_t{0});
}

}  // namespace

TEST_CASE("a supermask keeps the counts of methods.md's table") {
  // 3072 × 768: n blocks, kept at s = .7, .8, .9
  struct Entry {
    std::int64_t blocks, at70, at80, at90;
  };
  for (const Entry& entry :
       {Entry{9216, 2765, 1844, 922}, Entry{2304, 692, 462, 231}, Entry{576, 173, 116, 58}}) {
    CHECK(kept_blocks(entry.blocks, 0.7) == entry.at70);
    CHECK(kept_blocks(entry.blocks, 0.8) == entry.at80);
    CHECK(kept_blocks(entry.blocks, 0.9) == entry.at90);
  }
  CHECK(kept_blocks(1, 0.9) == 1);
}

TEST_CASE("prune-and-grow wants max(1, n - round(s n)) blocks, half up") {
  CHECK(live_blocks(10, 0.0) == 10);
  CHECK(live_blocks(10, 0.25) == 7);  // round(2.5) = 3
  CHECK(live_blocks(10, 0.99) == 1);
  CHECK(live_blocks(1, 0.9) == 1);
}

TEST_CASE("equal scores break on the lower index, and a NaN is refused") {
  const std::vector<double> scores{1, 3, 3, 0, 3};
  CHECK(top_k(scores, 2) == std::vector<std::int64_t>{1, 2});
  CHECK(top_k(scores, 9) == std::vector<std::int64_t>{1, 2, 4, 0, 3});
  CHECK_THROWS_AS(top_k(std::vector<double>{1, NAN}, 1), Error);
}

TEST_CASE("union adds the strongest gradients to the largest weights") {
  const MaskBytes live{1, 1, 1, 1, 0, 0};
  const std::vector<double> score{4, 3, 2, 1, 0, 0};
  const std::vector<double> growth{0, 9, 8, 0, 7, 1};
  const RefreshInput base{.live = live, .score = score, .growth = growth, .wanted = 3};
  RefreshInput input = base;
  CHECK(prune_and_grow(input) == MaskBytes{1, 1, 1, 0, 0, 0});
  input.regrow = Regrow::kUnion;  // D = {1, 2, 4}
  CHECK(prune_and_grow(input) == MaskBytes{1, 1, 1, 0, 1, 0});
  input.regrow = Regrow::kSwap;
  input.swap_fraction = 0.3;  // ⌊0.9⌋ = 0 may swap
  CHECK(prune_and_grow(input) == MaskBytes{1, 1, 1, 0, 0, 0});
  input.swap_fraction = 0.7;  // ⌊2.1⌋ = 2, but D has one block that K lacks
  CHECK(prune_and_grow(input) == MaskBytes{1, 1, 0, 0, 1, 0});
}

TEST_CASE("a matrix alone gets the mask that it gets beside an empty one") {
  // Where matrices are pooled blocks are sorted, which is slower and needs no other choice.
  for (const std::size_t n : {1U, 7U, 61U, 400U}) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      MaskBytes live(n);
      std::vector<double> score(n);
      std::vector<double> growth(n);
      for (std::size_t b = 0; b < n; ++b) {
        live[b] = uniform(seed, 0, b) < 0.6F ? 1 : 0;
        score[b] = static_cast<double>(uniform_below(seed, 1, b, n));  // with ties
        growth[b] = static_cast<double>(uniform_below(seed, 2, b, n));
      }
      const auto size = static_cast<std::int64_t>(n);
      const std::vector<std::int64_t> begin{0, size, size};
      for (const Regrow regrow : {Regrow::kNone, Regrow::kSwap, Regrow::kUnion}) {
        RefreshInput input{.live = live,
                           .score = score,
                           .growth = growth,
                           .wanted = 1 + static_cast<std::int64_t>(uniform_below(seed, 3, 0, n)),
                           .regrow = regrow,
                           .swap_fraction = 0.3};
        const MaskBytes alone = prune_and_grow(input);
        input.matrix_begin = begin;
        CHECK(alone == prune_and_grow(input));
      }
    }
  }
}

TEST_CASE("a live block that only the gradient wants stays live under union") {
  const MaskBytes live{1, 1, 1, 0};
  const std::vector<double> score{3, 2, 1, 0};
  const std::vector<double> growth{0, 0, 5, 6};
  const MaskBytes mask = prune_and_grow(
      {.live = live, .score = score, .growth = growth, .wanted = 2, .regrow = Regrow::kUnion});
  CHECK(mask == MaskBytes{1, 1, 1, 1});
}

TEST_CASE("a schedule that densifies fills by gradient, then by index") {
  const MaskBytes live{0, 1, 0, 0};
  const std::vector<double> score{0, 1, 0, 0};
  const std::vector<double> growth{0, 0, 1, 2};
  CHECK(prune_and_grow({.live = live, .score = score, .growth = growth, .wanted = 2}) ==
        MaskBytes{0, 1, 0, 1});
  CHECK(prune_and_grow({.live = live, .score = score, .wanted = 3}) == MaskBytes{1, 1, 1, 0});
}

TEST_CASE("pooled matrices each keep a block, and the total stays what is wanted") {
  const MaskBytes live(6, 1);
  const std::vector<double> score{9, 8, 7, 0.1, 0.3, 0.2};
  const std::vector<std::int64_t> begin{0, 3, 6};
  const MaskBytes mask =
      prune_and_grow({.live = live, .score = score, .wanted = 3, .matrix_begin = begin});
  CHECK(mask == MaskBytes{1, 1, 0, 0, 1, 0});
  CHECK(count(mask) == 3);
}

TEST_CASE("a swap does not take a pooled matrix's last block") {
  const MaskBytes live{1, 1, 1, 1, 1, 0, 0};
  const std::vector<double> score{9, 8, 0.5, 0.4, 1, 0, 0};
  const std::vector<double> growth{0, 0, 5, 4, 0, 0, 0};
  const std::vector<std::int64_t> begin{0, 4, 7};
  // K = {0, 1, 4}, D = {2, 3}; the weakest of K is all that the second matrix has.
  const MaskBytes mask = prune_and_grow({.live = live,
                                         .score = score,
                                         .growth = growth,
                                         .wanted = 3,
                                         .regrow = Regrow::kSwap,
                                         .swap_fraction = 0.4,
                                         .matrix_begin = begin});
  CHECK(mask == MaskBytes{1, 1, 0, 0, 1, 0, 0});
}

TEST_CASE("inputs that do not fit are refused") {
  const MaskBytes live{1, 1};
  const std::vector<double> score{1};
  CHECK_THROWS_AS(prune_and_grow({.live = live, .score = score, .wanted = 1}), ShapeError);
  const std::vector<double> two{1, 2};
  CHECK_THROWS_AS(prune_and_grow({.live = live, .score = two, .wanted = 3}), ShapeError);
}

}  // namespace hew::sparsity
