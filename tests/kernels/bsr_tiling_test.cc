#include "kernels/hopper/bsr_tiling.h"

#include <doctest/doctest.h>

#include "tests/support/block_pattern.h"

namespace hew {
namespace {

using kernels::BsrSchedule;
using kernels::hopper::BsrPacking;
using kernels::hopper::choose_packing;

struct Problem {
  std::int64_t tokens, rows, cols, block;
  double density;
  std::int64_t element_bytes = 2;
};

BsrPacking packing_of(const Problem& p) {
  const test::BlockPattern pattern = test::random_pattern(p.rows, p.cols, p.block, p.density, 3);
  const BsrSchedule schedule(pattern.index(), make_cpu_stream());
  return choose_packing(schedule.by_rows, {.tokens = p.tokens,
                                           .depth = p.cols,
                                           .width = p.rows,
                                           .block = p.block,
                                           .nnzb = pattern.nnzb(),
                                           .element_bytes = p.element_bytes,
                                           .multiprocessors = 132});
}

}  // namespace

TEST_CASE("the input is packed where its tiles are loaded for many rows of blocks") {
  for (const double density : {0.5, 0.1}) {
    CHECK(packs_input(packing_of({8192, 14336, 4096, 16, density})));
    CHECK(packs_input(packing_of({8192, 14336, 4096, 16, density, /*element_bytes=*/4})));
    CHECK_FALSE(packs_input(packing_of({50432, 768, 3072, 32, density})));  // for few
  }
  CHECK(packing_of({50432, 3072, 768, 32, 0.05}) == BsrPacking::kNone);  // device memory binds
}

TEST_CASE("blocks are packed where many tiles of tokens load them") {
  CHECK(packs_values(packing_of({8192, 14336, 4096, 16, 0.5})));
  CHECK(packs_values(packing_of({50432, 768, 3072, 32, 0.5})));
  CHECK_FALSE(packs_values(packing_of({256, 14336, 4096, 16, 0.5})));
}

TEST_CASE("rows of 128 bytes are never packed") {
  for (const std::int64_t block : {64, 128})
    CHECK(packing_of({8192, 14336, 4096, block, 0.5}) == BsrPacking::kNone);
  CHECK(packing_of({8192, 14336, 4096, 32, 0.5, /*element_bytes=*/4}) == BsrPacking::kNone);
}

}  // namespace hew
