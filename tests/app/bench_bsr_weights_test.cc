#include "app/bench_bsr_weights.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "core/error.h"
#include "core/stream.h"

namespace hew {
namespace {

// Live blocks of the fullest of the rows, or columns, that a begin array delimits.
std::int32_t fullest(const std::vector<std::int32_t>& begin) {
  std::int32_t most = 0;
  for (std::size_t i = 0; i + 1 < begin.size(); ++i) most = std::max(most, begin[i + 1] - begin[i]);
  return most;
}

std::int32_t fullest_column(const sparsity::BsrPattern& pattern) {
  std::vector<std::int32_t> counts(static_cast<std::size_t>(pattern.grid().block_cols()), 0);
  for (const std::int32_t c : pattern.col_indices()) ++counts[static_cast<std::size_t>(c)];
  return *std::max_element(counts.begin(), counts.end());
}

}  // namespace

TEST_CASE("patterns have exactly the wanted number of blocks") {
  const Stream cpu = make_cpu_stream();
  for (const auto& [kind, name] : EnumNames<BsrPatternKind>::kTable) {
    for (const sparsity::BlockGrid& grid : {sparsity::BlockGrid{.rows = 1, .cols = 1, .block = 8},
                                            {.rows = 8, .cols = 300, .block = 8},
                                            {.rows = 200, .cols = 16, .block = 8},
                                            {.rows = 333, .cols = 500, .block = 16}}) {
      for (const double sparsity : {0.0, 0.1, 0.5, 0.9, 1.0}) {
        CAPTURE(name);
        CAPTURE(sparsity);
        CHECK(draw_pattern(kind, grid, sparsity, cpu).nnzb() ==
              sparsity::live_blocks(grid.blocks(), sparsity));
      }
    }
  }
}

TEST_CASE("a long row or column has eight times the mean, if there is room") {
  const Stream cpu = make_cpu_stream();
  const sparsity::BlockGrid grid{.rows = 100 * 8, .cols = 200 * 8, .block = 8};
  // 1000 live blocks: 10 a row, 5 a column.
  CHECK(fullest(draw_pattern(BsrPatternKind::kRandom, grid, 0.95, cpu).crow_indices()) < 30);
  CHECK(fullest(draw_pattern(BsrPatternKind::kLongRow, grid, 0.95, cpu).crow_indices()) == 80);
  CHECK(fullest_column(draw_pattern(BsrPatternKind::kLongColumn, grid, 0.95, cpu)) == 40);
  CHECK(fullest(draw_pattern(BsrPatternKind::kLongRow, grid, 0.5, cpu).crow_indices()) == 200);
}

TEST_CASE("known shapes go by name") {
  CHECK(bsr_shapes_of({"all"}).size() == known_bsr_shapes().size());
  const auto shapes = bsr_shapes_of({"llama_down", "vitb_fc1"});
  REQUIRE(shapes.size() == 2);
  CHECK(shapes[0].k == 14336);
  CHECK(shapes[1].m == 50432);
  CHECK_THROWS_AS(bsr_shapes_of({"vitb"}), ConfigError);
}

}  // namespace hew
