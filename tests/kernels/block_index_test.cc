#include "kernels/block_index.h"

#include <doctest/doctest.h>

#include <numeric>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"

namespace hew {
namespace {

using Ints = std::vector<std::int32_t>;

struct Index {
  Ints crow, col, ccol, row, position;
  friend bool operator==(const Index&, const Index&) = default;
};

// By the definition: blocks in the order of rows, then in that of columns.
Index expected_of(const std::vector<std::uint8_t>& mask, std::int64_t rows, std::int64_t cols) {
  Index out{.crow = {0}, .col = {}, .ccol = {0}, .row = {}, .position = {}};
  std::vector<std::int32_t> number(mask.size(), -1);
  auto at = [cols](std::int64_t r, std::int64_t c) {
    return static_cast<std::size_t>(r * cols + c);
  };
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      if (mask[at(r, c)] == 0)
        continue;
      number[at(r, c)] = static_cast<std::int32_t>(out.col.size());
      out.col.push_back(static_cast<std::int32_t>(c));
    }
    out.crow.push_back(static_cast<std::int32_t>(out.col.size()));
  }
  for (std::int64_t c = 0; c < cols; ++c) {
    for (std::int64_t r = 0; r < rows; ++r) {
      if (number[at(r, c)] < 0)
        continue;
      out.row.push_back(static_cast<std::int32_t>(r));
      out.position.push_back(number[at(r, c)]);
    }
    out.ccol.push_back(static_cast<std::int32_t>(out.row.size()));
  }
  return out;
}

Index index_of(const std::vector<std::uint8_t>& mask, std::int64_t rows, std::int64_t cols) {
  const Stream& stream = test::test_stream();
  const std::int64_t live = std::accumulate(mask.begin(), mask.end(), std::int64_t{0});
  const Tensor given = Tensor::from(mask, {rows, cols}, stream);
  auto ints = [&stream](std::int64_t n) { return test::poisoned({n}, DType::kInt32, stream); };
  Tensor crow = ints(rows + 1);
  Tensor col = ints(live);
  Tensor ccol = ints(cols + 1);
  Tensor row = ints(live);
  Tensor position = ints(live);
  kernels::index_blocks(
      {.mask = given, .crow = crow, .col = col, .ccol = ccol, .row = row, .position = position},
      stream);
  return {.crow = crow.to_vector<std::int32_t>(),
          .col = col.to_vector<std::int32_t>(),
          .ccol = ccol.to_vector<std::int32_t>(),
          .row = row.to_vector<std::int32_t>(),
          .position = position.to_vector<std::int32_t>()};
}

}  // namespace

TEST_CASE("the index of a mask is that of its definition") {
  const std::vector<std::pair<std::int64_t, std::int64_t>> grids{
      {1, 1}, {1, 33}, {31, 1}, {3, 5}, {37, 101}, {64, 32}, {2, 2500}, {1031, 3}};
  for (const auto& [rows, cols] : grids) {
    for (const int percent : {0, 3, 50, 100}) {
      CAPTURE(rows);
      CAPTURE(cols);
      CAPTURE(percent);
      std::vector<std::uint8_t> mask(static_cast<std::size_t>(rows * cols));
      for (std::size_t i = 0; i < mask.size(); ++i) {
        mask[i] = uniform_below(7, 0, i, 100) < static_cast<std::uint64_t>(percent) ? 1 : 0;
      }
      CHECK((index_of(mask, rows, cols) == expected_of(mask, rows, cols)));
    }
  }
}

TEST_CASE("arrays that do not fit are refused") {
  const Stream& stream = test::test_stream();
  const Tensor mask = Tensor::from(std::vector<std::uint8_t>{1, 0, 1, 0}, {2, 2}, stream);
  Tensor ends = Tensor::zeros({3}, DType::kInt32, stream);
  Tensor two = Tensor::zeros({2}, DType::kInt32, stream);
  Tensor wide = Tensor::zeros({2}, DType::kInt64, stream);
  auto index = [&](const Tensor& m, const View& crow, const View& col) {
    kernels::index_blocks(
        {.mask = m, .crow = crow, .col = col, .ccol = ends, .row = two, .position = two}, stream);
  };
  CHECK_THROWS_AS(index(mask.reshape({4}), ends, two), ShapeError);
  CHECK_THROWS_AS(index(mask, two, two), ShapeError);
  CHECK_THROWS_AS(index(mask, ends, ends), ShapeError);
  CHECK_THROWS_AS(index(mask, ends, wide), DtypeError);
  if (!test::on_gpu()) {
    Tensor three = Tensor::zeros({3}, DType::kInt32, stream);
    CHECK_THROWS_AS(kernels::index_blocks({.mask = mask,
                                           .crow = ends,
                                           .col = three,
                                           .ccol = ends,
                                           .row = three,
                                           .position = three},
                                          stream),
                    ShapeError);
  }
}

}  // namespace hew
