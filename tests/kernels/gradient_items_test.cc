#include "kernels/hopper/gradient_items.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "kernels/hopper/gradient_split.h"
#include "tests/support/block_pattern.h"

namespace hew {
namespace {

using kernels::hopper::GradientItem;
using kernels::hopper::GradientSplit;
using kernels::hopper::GradientWork;
using kernels::hopper::split_gradient;
using test::BlockPattern;
using test::make_pattern;
using test::random_pattern;

struct Place {
  std::int64_t row = 0;
  std::int64_t col = 0;
};

// Where the values of each live block start in the matrix.
std::vector<Place> places(const BlockPattern& p) {
  std::vector<Place> out;
  for (std::size_t r = 0; r + 1 < p.crow.size(); ++r) {
    for (auto at = p.crow[r]; at < p.crow[r + 1]; ++at) {
      out.push_back({.row = static_cast<std::int64_t>(r) * p.block,
                     .col = p.col[static_cast<std::size_t>(at)] * p.block});
    }
  }
  return out;
}

// Counts how much of each live block the items make, in panels of a block, and that it is the
// product of the right panels.
std::vector<int> made(const BlockPattern& p, const std::vector<GradientItem>& items) {
  const std::vector<Place> wanted = places(p);
  const std::int64_t panel = std::min<std::int64_t>(p.block, 64);
  std::vector<int> parts(wanted.size());
  const std::size_t half = 128U / static_cast<std::size_t>(panel);  // slots of one left operand
  bool right = true;
  for (const GradientItem& item : items) {
    for (std::size_t w = 0; w < item.of.size(); ++w) {
      const GradientItem::Warpgroup& of = item.of[w];
      right = right && of.right + of.slots <= item.panels &&
              std::ranges::max(of.left) < item.left_panels;
      for (std::size_t line = 0;
           line < (64U / std::min<std::size_t>(static_cast<std::size_t>(p.block), 64U)); ++line) {
        for (std::size_t slot = 0; slot < static_cast<std::size_t>(of.slots); ++slot) {
          const std::int32_t block = item.block[w][line][slot];
          if (block < 0)
            continue;
          const std::int64_t a = item.start[static_cast<std::size_t>(of.left[slot / half]) + line];
          const std::int64_t b = item.start[static_cast<std::size_t>(of.right) + slot];
          const Place& place = wanted.at(static_cast<std::size_t>(block));
          const std::int64_t row = (item.transposed != 0 ? b : a) - place.row;
          const std::int64_t col = (item.transposed != 0 ? a : b) - place.col;
          right = right && row >= 0 && row < p.block && col >= 0 && col < p.block &&
                  row % panel == 0 && col % panel == 0;
          ++parts[static_cast<std::size_t>(block)];
        }
      }
    }
  }
  CHECK(right);
  return parts;
}

void check_items(const BlockPattern& p) {
  CAPTURE(p.block);
  CAPTURE(p.nnzb());
  for (const bool tf32 : {false, true}) {
    CAPTURE(tf32);
    const std::vector<GradientItem> items = kernels::hopper::gradient_items(p.index(), tf32);
    const int parts = p.block == 128 ? 4 : 1;
    const std::vector<int> counts = made(p, items);
    CHECK(std::all_of(counts.begin(), counts.end(), [&](int n) { return n == parts; }));
    const int most = p.block == 16 ? 36 : p.block == 32 ? 18 : p.block == 128 ? 6 : tf32 ? 9 : 7;
    for (const GradientItem& item : items) {
      CHECK(item.panels <= most);
      const bool star =
          item.of[0].left[0] != item.of[0].left[1] || item.of[1].left[0] != item.of[1].left[1];
      CHECK((!star || (p.block == 64 && !tf32)));
    }
  }
}

}  // namespace

TEST_CASE("items of the weight gradient make every live block once") {
  for (const std::int64_t b : {16, 32, 64, 128}) {
    for (const double density : {0.0, 0.05, 0.3, 0.5, 0.9, 1.0}) {
      CAPTURE(density);
      check_items(random_pattern(7 * b, 13 * b, b, density, 5));
      check_items(random_pattern(13 * b + 8, 6 * b + 8, b, density, 6));
      check_items(random_pattern(90 * b, 40 * b, b, density, 7));
    }
    check_items(make_pattern(3 * b, 70 * b, b, [](std::int64_t r, std::int64_t c) {
      return r == 1 || c % 8 == 0;  // a row 8 times as long
    }));
    check_items(make_pattern(b, b, b, [](std::int64_t, std::int64_t) { return true; }));
    check_items(make_pattern(50 * b, 20 * b, b,
                             [](std::int64_t r, std::int64_t c) { return r == 49 && c == 3; }));
    check_items(
        make_pattern(30 * b, 30 * b, b, [](std::int64_t r, std::int64_t c) { return r == c; }));
  }
}

TEST_CASE("items share panels: far fewer bytes than blocks on their own take") {
  for (const std::int64_t b : {16, 32, 64, 128}) {
    CAPTURE(b);
    const BlockPattern p = random_pattern(64 * b, 48 * b, b, 0.5, 9);
    std::int64_t panels = 0;
    for (const GradientItem& item : kernels::hopper::gradient_items(p.index()))
      panels += item.panels;
    const std::int64_t alone = p.nnzb() * (b == 128 ? 4 : 2);
    CHECK(static_cast<double>(panels) < (b == 128 ? 0.77 : 0.5) * static_cast<double>(alone));
  }
}

TEST_CASE("stars share more panels than pairs of lines do") {
  const BlockPattern p = random_pattern(100 * 64, 60 * 64, 64, 0.15, 3);
  std::array<std::int64_t, 2> panels{};
  std::array<std::int64_t, 2> stars{};
  for (const bool pairs : {false, true}) {
    for (const GradientItem& item : kernels::hopper::gradient_items(p.index(), pairs)) {
      panels[pairs ? 1 : 0] += item.panels;
      stars[pairs ? 1 : 0] += item.of[1].left[0] != item.of[1].left[1] ? 1 : 0;
    }
  }
  CHECK(stars[0] > p.nnzb() / 40);
  CHECK(stars[1] == 0);
  CHECK(panels[0] < panels[1]);
}

TEST_CASE("tokens of the weight gradient are cut where items do not fill a GPU") {
  const GradientSplit few = split_gradient({.items = 14,
                                            .panels = 80,
                                            .most = 8,
                                            .block = 64,
                                            .nnzb = 58,
                                            .steps = 788,
                                            .multiprocessors = 132});
  CHECK(few.whole == 0);
  CHECK(few.splits * 14 > 100);
  const GradientSplit many = split_gradient({.items = 3000,
                                             .panels = 21000,
                                             .most = 9,
                                             .block = 64,
                                             .nnzb = 24000,
                                             .steps = 128,
                                             .multiprocessors = 132});
  CHECK(many.whole >= 20 * 132);
  const GradientSplit tail = split_gradient({.items = 140,
                                             .panels = 840,
                                             .most = 6,
                                             .block = 128,
                                             .nnzb = 280,
                                             .steps = 512,
                                             .multiprocessors = 132});
  CHECK(tail.splits > 1);
  CHECK(tail.whole <= 132);
  const GradientSplit one_step = split_gradient({.items = 1,
                                                 .panels = 2,
                                                 .most = 2,
                                                 .block = 64,
                                                 .nnzb = 1,
                                                 .steps = 1,
                                                 .multiprocessors = 132});
  CHECK(one_step.whole == 1);
}

TEST_CASE("thread blocks keep together where they read more than the cache holds") {
  GradientWork work{.items = 120,
                    .panels = 720,
                    .most = 7,
                    .block = 64,
                    .nnzb = 720,
                    .live_columns = 18432,
                    .steps = 128,
                    .multiprocessors = 132};
  const std::int64_t close = split_gradient(work).lead;
  CHECK(close == 2);
  work.live_columns = 768;
  CHECK(split_gradient(work).lead > 8 * close);
  work.block = 128;  // items of one size
  CHECK(split_gradient(work).lead == 0);
}

}  // namespace hew
