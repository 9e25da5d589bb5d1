#include "sparsity/pattern.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew::sparsity {
namespace {

BlockMask random_mask(const BlockGrid& grid, double density, std::uint64_t seed) {
  BlockMask out{.grid = grid, .mask = MaskBytes(static_cast<std::size_t>(grid.blocks()))};
  for (std::size_t i = 0; i < out.mask.size(); ++i) {
    out.mask[i] = static_cast<double>(uniform(seed, 0, i)) < density ? 1 : 0;
  }
  return out;
}

std::vector<BlockMask> some_masks() {
  return {random_mask({.rows = 1, .cols = 1, .block = 8}, 1, 1),
          random_mask({.rows = 37, .cols = 60, .block = 8}, 0.3, 2),
          random_mask({.rows = 320, .cols = 200, .block = 32}, 0, 3),
          random_mask({.rows = 320, .cols = 200, .block = 32}, 0.5, 4),
          random_mask({.rows = 500, .cols = 700, .block = 64}, 0.4, 5),
          random_mask({.rows = 500, .cols = 700, .block = 128}, 0.9, 6)};
}

// The index as a check reads it: the products of both directions with what both are made of.
void check_same(const BsrPattern& a, const BsrPattern& b) {
  CHECK(a.grid() == b.grid());
  REQUIRE(a.live_blocks() == b.live_blocks());
  CHECK(a.crow_indices() == b.crow_indices());
  CHECK(a.col_indices() == b.col_indices());
  const Stream& stream = test::test_stream();
  const BlockGrid& grid = a.grid();
  const Tensor values =
      test::random_tensor({a.nnzb(), grid.block, grid.block}, DType::kFloat32, stream, 7);
  const Tensor x = test::random_tensor({19, grid.cols}, DType::kFloat32, stream, 8);
  const Tensor dy = test::random_tensor({19, grid.rows}, DType::kFloat32, stream, 9);
  auto products = [&](const BsrPattern& pattern) {
    Tensor y = Tensor::empty(dy.shape(), dy.dtype(), stream);
    kernels::bsr_forward(
        {.x = x, .values = values, .index = pattern.index(), .bias = {}, .y = y, .pre = {}},
        stream);
    Tensor dx = Tensor::empty(x.shape(), x.dtype(), stream);
    kernels::bsr_input_gradient({.dy = dy, .values = values, .index = pattern.index(), .dx = dx},
                                stream);
    return std::array{y, dx};
  };
  const auto [y, dx] = products(a);
  const auto [expected_y, expected_dx] = products(b);
  CHECK(test::same_bytes(y, expected_y));
  CHECK(test::same_bytes(dx, expected_dx));
}

}  // namespace

TEST_CASE("patterns made together are those made one by one, and outlive each other") {
  const Stream& stream = test::test_stream();
  const std::vector<BlockMask> masks = some_masks();
  std::vector<PatternPtr> together = BsrPattern::of(masks, stream);
  REQUIRE(together.size() == masks.size());
  for (std::size_t i = 0; i < masks.size(); ++i) {
    CAPTURE(i);
    const PatternPtr pattern = std::move(together[i]);
    together[i] = nullptr;
    CHECK(pattern->mask() == masks[i].mask);
    check_same(*pattern, BsrPattern(masks[i].grid, masks[i].mask, stream));
  }
  CHECK(BsrPattern::of({}, stream).empty());
}

TEST_CASE("one mask of a wrong size among several is refused") {
  std::vector<BlockMask> masks = some_masks();
  masks[3].mask.pop_back();
  CHECK_THROWS_WITH_AS(BsrPattern::of(masks, test::test_stream()),
                       doctest::Contains("mask has 69 blocks, expected 70"), ShapeError);
}

TEST_CASE("a pattern keeps the schedule of the MLP that it was asked for last") {
  const Stream& stream = test::test_stream();
  const auto pattern = [&](std::int64_t rows, std::int64_t cols, double density) {
    const BlockMask mask = random_mask({.rows = rows, .cols = cols, .block = 64}, density, 1);
    return std::make_shared<const BsrPattern>(mask.grid, mask.mask, stream);
  };
  const PatternPtr up = pattern(500, 200, 0.5);
  const PatternPtr down = pattern(200, 500, 0.5);
  const kernels::BsrMlpSchedule* first = up->mlp_schedule(down);
  if (!test::on_gpu()) {
    CHECK(first == nullptr);
    return;
  }
  REQUIRE(first != nullptr);
  CHECK(up->mlp_schedule(down) == first);
  CHECK(first->program().blocks <= up->nnzb() + down->nnzb());
  CHECK(first->program().blocks >= down->nnzb());
  // One that has died is not taken for another in its place.
  PatternPtr other = pattern(200, 500, 0.2);
  const int blocks = up->mlp_schedule(other)->program().blocks;
  other = nullptr;
  other = pattern(200, 500, 0.9);
  CHECK(up->mlp_schedule(other)->program().blocks != blocks);
  CHECK(up->mlp_schedule(pattern(832, 500, 0.5)) == nullptr);  // too wide
}

}  // namespace hew::sparsity
