#include "kernels/bsr_schedule.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "kernels/hopper/bsr_tiling.h"
#include "tests/support/block_pattern.h"

namespace hew {
namespace {

using kernels::BsrSchedule;
using kernels::BsrWalk;
using kernels::RowGroups;
using kernels::hopper::BsrTile;
using test::BlockPattern;
using test::make_pattern;
using test::random_pattern;

// One direction of a pattern: the position in values of each live (row, column).
struct Direction {
  std::int64_t rows;
  std::map<std::pair<int, int>, int> live;
};

Direction forward_of(const BlockPattern& p) {
  Direction d{.rows = p.index().block_rows(), .live = {}};
  for (int r = 0; r < d.rows; ++r) {
    for (int at = p.crow[static_cast<std::size_t>(r)]; at < p.crow[static_cast<std::size_t>(r) + 1];
         ++at) {
      d.live[{r, p.col[static_cast<std::size_t>(at)]}] = at;
    }
  }
  return d;
}

Direction transposed(const Direction& d, const BlockPattern& p) {
  Direction out{.rows = p.index().block_cols(), .live = {}};
  for (const auto& [where, position] : d.live) out.live[{where.second, where.first}] = position;
  return out;
}

// Each row in one group or cut into parts, each live block in one step of its row's slot, at its
// column.
void check_groups(const RowGroups& groups, int members, const Direction& d) {
  CAPTURE(members);
  REQUIRE(groups.members == members);
  REQUIRE(groups.parts == nullptr);
  REQUIRE(groups.groups == (d.rows + members - 1) / members);
  REQUIRE(groups.begin[0] == 0);
  REQUIRE(groups.begin[groups.groups] == groups.steps);
  std::set<int> rows;
  std::map<std::pair<int, int>, int> seen;
  for (std::int64_t g = 0; g < groups.groups; ++g) {
    const int begin = groups.begin[g];
    const int end = groups.begin[g + 1];
    CHECK(end - begin <= groups.longest);
    if (g > 0)
      CHECK(end - begin <= begin - groups.begin[g - 1]);
    for (int step = begin; step < end; ++step) {
      if (step > begin)
        CHECK(groups.columns[step - 1] < groups.columns[step]);
      int live = 0;
      for (int m = 0; m < members; ++m) {
        const int position = groups.positions[step * members + m];
        if (position < 0)
          continue;
        ++live;
        const std::pair where{groups.rows[g * members + m], groups.columns[step]};
        CHECK(seen.insert({where, position}).second);
      }
      CHECK(live > 0);
    }
    for (int m = 0; m < members; ++m) {
      const int row = groups.rows[g * members + m];
      if (row >= 0)
        CHECK(rows.insert(row).second);
    }
  }
  CHECK(static_cast<std::int64_t>(rows.size()) == d.rows);
  CHECK(seen == d.live);
}

void check_walk(const BsrWalk& walk, std::int64_t block, const Direction& d) {
  check_groups(walk.together, static_cast<int>(128 / block), d);
  if (block >= 64)
    check_groups(walk.alone, 1, d);
  else
    CHECK(walk.alone.groups == 0);
  if (block == 32 && kernels::tall_tiles_may_pay(d.rows * block))
    check_groups(walk.tall, 8, d);
  else
    CHECK(walk.tall.groups == 0);
}

}  // namespace

TEST_CASE("a schedule holds each live block once, in its row's slot, longest groups first") {
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t b : {16, 32, 64, 128}) {
    CAPTURE(b);
    for (const double density : {0.0, 0.05, 0.5, 1.0}) {
      CAPTURE(density);
      for (const auto& [rows, cols] : {std::pair{1, 1}, {7, 3}, {21, 130}, {130, 67}}) {
        const BlockPattern p = random_pattern(rows * b - 5, cols * b - 3, b, density, 11);
        const BsrSchedule schedule(p.index(), cpu);
        const Direction forward = forward_of(p);
        check_walk(schedule.by_rows, b, forward);
        check_walk(schedule.by_columns, b, transposed(forward, p));
      }
    }
  }
}

TEST_CASE("rows that share columns are made together") {
  // Rows r and r + 32 need the same 8 of 64 columns, and no others need those.
  const BlockPattern p = make_pattern(
      64 * 64, 64 * 64, 64, [](std::int64_t r, std::int64_t c) { return c % 32 == r % 32; });
  const BsrSchedule schedule(p.index(), make_cpu_stream());
  CHECK(schedule.by_rows.alone.steps == p.nnzb());
  CHECK(schedule.by_rows.together.steps == p.nnzb() / 2);
  const BlockPattern quads = make_pattern(
      64 * 32, 64 * 32, 32, [](std::int64_t r, std::int64_t c) { return c % 16 == r % 16; });
  const BsrSchedule of_quads(quads.index(), make_cpu_stream());
  CHECK(of_quads.by_rows.together.steps == quads.nnzb() / 4);
  CHECK(of_quads.by_columns.together.steps == quads.nnzb() / 4);
}

TEST_CASE("many rows are paired within bounded time, none lost") {
  const BlockPattern p = random_pattern(4000 * 32, 32 * 32, 32, 0.1, 5);
  const BsrSchedule schedule(p.index(), make_cpu_stream());
  check_walk(schedule.by_rows, 32, forward_of(p));
  CHECK(schedule.by_rows.together.steps < p.nnzb());
  CHECK(schedule.by_columns.tall.groups > 0);
}

TEST_CASE("a schedule is made for a GPU and blocks that have kernels only") {
  const BlockPattern p = random_pattern(96, 96, 24, 0.5, 5);
  CHECK_THROWS_AS(BsrSchedule(p.index(), make_cpu_stream()), ShapeError);
  CHECK(kernels::schedule_for(random_pattern(64, 64, 32, 1, 5).index(), make_cpu_stream()) ==
        nullptr);
}

TEST_CASE("an order of tiles has each of them once") {
  using kernels::hopper::TileOrder;
  for (const TileOrder& order :
       {TileOrder{.groups = 1, .token_tiles = 1, .run = 2, .last_run = 1, .end = 1},
        TileOrder{.groups = 3, .token_tiles = 7, .run = 2, .last_run = 3, .end = 3},
        TileOrder{.groups = 5, .token_tiles = 9, .run = 4, .last_run = 4, .end = 4},
        TileOrder{.groups = 4, .token_tiles = 6, .run = 2, .last_run = 6, .end = 6},
        TileOrder{.groups = 2, .token_tiles = 11, .run = 4, .last_run = 2, .end = 2},
        TileOrder{
            .groups = 5, .token_tiles = 9, .run = 2, .last_run = 3, .end = 6, .long_groups = 2},
        TileOrder{
            .groups = 2, .token_tiles = 7, .run = 2, .last_run = 2, .end = 7, .long_groups = 1},
        TileOrder{
            .groups = 7, .token_tiles = 1, .run = 2, .last_run = 1, .end = 1, .long_groups = 3}}) {
    std::set<std::pair<int, int>> seen;
    for (int i = 0; i < order.count(); ++i) {
      const auto [group, token_tile] = order.at(i);
      CHECK(group >= 0);
      CHECK(token_tile >= 0);
      CHECK(group < order.groups);
      CHECK(token_tile < order.token_tiles);
      seen.insert({group, token_tile});
    }
    CHECK(static_cast<int>(seen.size()) == order.count());
  }
}

TEST_CASE("of the last token tiles the long groups' come first") {
  const kernels::hopper::TileOrder order{
      .groups = 3, .token_tiles = 5, .run = 2, .last_run = 2, .end = 3, .long_groups = 1};
  const std::array<std::pair<int, int>, 15> wanted{{{0, 0},
                                                    {0, 1},
                                                    {1, 0},
                                                    {1, 1},
                                                    {2, 0},
                                                    {2, 1},
                                                    {0, 2},
                                                    {0, 3},
                                                    {0, 4},
                                                    {1, 2},
                                                    {2, 2},
                                                    {1, 3},
                                                    {1, 4},
                                                    {2, 3},
                                                    {2, 4}}};
  for (int i = 0; i < order.count(); ++i) {
    CAPTURE(i);
    const auto [group, token_tile] = order.at(i);
    CHECK(std::pair{group, token_tile} == wanted[static_cast<std::size_t>(i)]);
  }
}

TEST_CASE("a long row leaves no multiprocessor idle for long") {
  const Stream cpu = make_cpu_stream();
  constexpr int kMultiprocessors = 132;
  for (const std::int64_t b : {32, 64, 128}) {
    for (const std::int64_t tokens : {4096, 8192, 32768}) {
      CAPTURE(b);
      CAPTURE(tokens);
      // 90 % of blocks dead, one row with eight times as many live ones as the others.
      const BlockPattern p = make_pattern(4096, 14336, b, [](std::int64_t r, std::int64_t c) {
        const std::int64_t draw = (r * 37 + c * 61 + r * c * 13) % 101;
        return draw < (r == 17 ? 72 : 9);
      });
      const BsrSchedule schedule(p.index(), cpu);
      const auto tiling =
          kernels::hopper::choose_tiling(schedule.by_rows, {.tokens = tokens,
                                                            .depth = 14336,
                                                            .width = 4096,
                                                            .block = b,
                                                            .nnzb = p.nnzb(),
                                                            .multiprocessors = kMultiprocessors});
      const RowGroups& groups =
          tiling.tile == BsrTile::kTogether ? schedule.by_rows.together : schedule.by_rows.alone;
      if (b == 32) {
        CHECK(groups.cut_rows == 0);
        CHECK(groups.long_groups == 1);
        CHECK(groups.long_steps == groups.longest);
        CHECK(tiling.order.long_groups == 1);
      } else {
        CHECK(groups.cut_rows == 1);
        CHECK(groups.longest * groups.groups < 3 * groups.steps);
      }
      // Whoever is free first makes the next tile.
      std::array<std::int64_t, kMultiprocessors> busy{};
      for (int i = 0; i < tiling.order.count(); ++i) {
        const int g = tiling.order.at(i).group;
        *std::ranges::min_element(busy) += groups.begin[g + 1] - groups.begin[g];
      }
      const double mean =
          static_cast<double>(groups.steps * tiling.order.token_tiles) / kMultiprocessors;
      const double most = static_cast<double>(*std::ranges::max_element(busy)) / mean;
      CHECK(most <= 1.15);
    }
  }
}

TEST_CASE("a row that is cut is there in parts") {
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t b : {64, 128}) {
    CAPTURE(b);
    const BlockPattern p = make_pattern(20 * b, 14336, b, [](std::int64_t r, std::int64_t c) {
      return (r * 37 + c * 61 + r * c * 13) % 101 < (r == 7 || r == 12 ? 90 : 9);
    });
    const BsrSchedule schedule(p.index(), cpu);
    for (const RowGroups& groups : {schedule.by_rows.together, schedule.by_rows.alone}) {
      CAPTURE(groups.members);
      REQUIRE(groups.cut_rows == 2);
      std::map<int, std::set<int>> numbers;  // of each cut row
      std::map<int, int> rows;
      std::vector<int> blocks(static_cast<std::size_t>(p.nnzb()), 0);
      for (std::int64_t g = 0; g < groups.groups; ++g) {
        const kernels::RowPart part{groups.parts[g]};
        const int row = groups.rows[g * groups.members];
        const int steps = groups.begin[g + 1] - groups.begin[g];
        for (int i = groups.begin[g]; i < groups.begin[g + 1]; ++i) {
          for (int m = 0; m < groups.members; ++m) {
            const int position = groups.positions[i * groups.members + m];
            if (position < 0)
              continue;
            ++blocks[static_cast<std::size_t>(position)];
            CHECK(p.col[static_cast<std::size_t>(position)] == groups.columns[i]);
          }
        }
        CHECK((part.count() > 0) == (row == 7 || row == 12));
        if (part.count() == 0)
          continue;
        CHECK(part.count() > 1);
        CHECK(part.count() <= groups.most_parts);
        CHECK(part.row() < groups.cut_rows);
        CHECK(numbers[part.row()].insert(part.number()).second);
        CHECK(rows.emplace(part.row(), row).first->second == row);
        CHECK(steps > 0);
        for (int m = 1; m < groups.members; ++m) CHECK(groups.rows[g * groups.members + m] == -1);
        CHECK(part.number() < part.count());
      }
      for (const auto& [row, of_row] : numbers) {
        const auto length = p.crow[static_cast<std::size_t>(rows[row]) + 1] -
                            p.crow[static_cast<std::size_t>(rows[row])];
        CHECK(static_cast<int>(of_row.size()) >= 2);
        CHECK(length > 48);
      }
      CHECK(numbers.size() == 2);
      CHECK(std::ranges::all_of(blocks, [](int times) { return times == 1; }));
    }
  }
}

TEST_CASE("tiles: together where loads bind, alone where the output's bytes do") {
  const Stream cpu = make_cpu_stream();
  struct Wanted {
    std::int64_t tokens, rows, cols, block;
    double density;
    bool together;
  };
  // What the faster kind was on an H100.
  for (const Wanted& w :
       {Wanted{50432, 3072, 768, 128, 0.5, true}, Wanted{50432, 3072, 768, 128, 0.1, false},
        Wanted{8192, 14336, 4096, 128, 0.1, true}, Wanted{8192, 4096, 14336, 128, 0.1, false},
        Wanted{16384, 6400, 1600, 64, 0.2, true}, Wanted{16384, 6400, 1600, 64, 0.05, false},
        Wanted{8192, 14336, 4096, 64, 0.05, true}, Wanted{8192, 4096, 14336, 64, 0.05, false},
        Wanted{8192, 4096, 14336, 32, 0.05, true}}) {
    CAPTURE(w.tokens);
    CAPTURE(w.rows);
    CAPTURE(w.block);
    CAPTURE(w.density);
    const BlockPattern p = random_pattern(w.rows, w.cols, w.block, w.density, 3);
    const BsrSchedule schedule(p.index(), cpu);
    const auto tiling = kernels::hopper::choose_tiling(schedule.by_rows, {.tokens = w.tokens,
                                                                          .depth = w.cols,
                                                                          .width = w.rows,
                                                                          .block = w.block,
                                                                          .nnzb = p.nnzb(),
                                                                          .multiprocessors = 132});
    CHECK((tiling.tile != BsrTile::kAlone) == w.together);
    CHECK(tiling.order.token_tiles == (w.tokens + tiling.tokens - 1) / tiling.tokens);
    CHECK(tiling.order.last_run <= tiling.order.token_tiles);
  }
}

}  // namespace hew
