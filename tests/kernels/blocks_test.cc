#include "kernels/blocks.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/product.h"
#include "tests/support/random.h"

namespace hew {
namespace {

struct Grid {
  std::int64_t n, k, b;
};

// One element, ragged both ways, whole, one block wider than the matrix.
constexpr std::array<Grid, 4> kGrids{{{1, 1, 8}, {37, 43, 8}, {64, 96, 32}, {5, 130, 64}}};

// Σ over block (r, c) of u ⊙ v, and how many elements it has.
std::pair<double, double> sum_over_block(const Tensor& u, const Tensor& v, const Grid& g,
                                         std::int64_t r, std::int64_t c) {
  const Tensor wide_u = test::widen(u);
  const Tensor wide_v = test::widen(v);
  double sum = 0;
  double count = 0;
  for (std::int64_t i = r * g.b; i < std::min(g.n, (r + 1) * g.b); ++i) {
    for (std::int64_t j = c * g.b; j < std::min(g.k, (c + 1) * g.b); ++j) {
      sum += wide_u.data<double>()[i * g.k + j] * wide_v.data<double>()[i * g.k + j];
      ++count;
    }
  }
  return {sum, count};
}

}  // namespace

TEST_CASE_TEMPLATE("block norms and dots match their formulas", T, float, double) {
  const Stream& stream = test::test_stream();
  for (const Grid& g : kGrids) {
    CAPTURE(g.n);
    const Tensor w = test::random_tensor({g.n, g.k}, kDTypeOf<T>, stream, 1);
    const Tensor grad = test::random_tensor({g.n, g.k}, kDTypeOf<T>, stream, 2);
    const Shape grid{(g.n + g.b - 1) / g.b, (g.k + g.b - 1) / g.b};
    Tensor norms = Tensor::empty(grid, DType::kFloat64, stream);
    Tensor dots = Tensor::empty(grid, kDTypeOf<T>, stream);
    kernels::block_norms(w, g.b, norms, stream);
    kernels::block_dot(grad, w, g.b, dots, stream);
    const std::vector<double> found_norms = norms.to_vector<double>();
    const std::vector<T> found_dots = dots.template to_vector<T>();
    for (std::int64_t r = 0; r < grid[0]; ++r) {
      for (std::int64_t c = 0; c < grid[1]; ++c) {
        const auto at = static_cast<std::size_t>(r * grid[1] + c);
        const auto [squares, count] = sum_over_block(w, w, g, r, c);
        CHECK(found_norms[at] == doctest::Approx(std::sqrt(squares / count)).epsilon(1e-13));
        const auto [dot, unused] = sum_over_block(grad, w, g, r, c);
        // The sum is in float64; what is left is one rounding to T and the sum's own error.
        const double epsilon = std::is_same_v<T, float> ? 0x1p-23 : 0x1p-52;
        CHECK(std::abs(static_cast<double>(found_dots[at]) - dot) <=
              epsilon * std::abs(dot) + 1e-12);
      }
    }
  }
}

TEST_CASE_TEMPLATE("blocks gather, scatter and keep their norms", T, float, double) {
  const Stream& stream = test::test_stream();
  for (const Grid& g : kGrids) {
    for (const double density : {0.0, 0.5, 1.0}) {
      CAPTURE(g.n);
      CAPTURE(density);
      const test::BlockPattern pattern = test::random_pattern(g.n, g.k, g.b, density, 3);
      const test::UploadedPattern uploaded(pattern, stream);
      const Tensor values = test::with_zero_padding(
          test::random_tensor(pattern.values_shape(), kDTypeOf<T>, stream, 1), pattern);
      Tensor dense = Tensor::empty({g.n, g.k}, kDTypeOf<T>, stream);
      kernels::scatter_blocks(values, uploaded.index(), dense, stream);
      CHECK(test::same_bytes(dense, test::fold(values, pattern)));
      Tensor back = Tensor::empty(values.shape(), kDTypeOf<T>, stream);
      kernels::gather_blocks(dense, uploaded.index(), back, stream);
      CHECK(test::same_bytes(back, values));
      kernels::accumulate_blocks(dense, uploaded.index(), back, stream);
      Tensor twice = values.clone();
      kernels::add(values, values, twice, stream);
      CHECK(test::same_bytes(back, twice));
      // Equal bits: a method may compare the norm of a live block with one of the dense matrix.
      Tensor live = Tensor::empty({pattern.nnzb()}, DType::kFloat64, stream);
      kernels::live_block_norms(values, uploaded.index(), live, stream);
      const std::int64_t columns = (g.k + g.b - 1) / g.b;
      Tensor all = Tensor::empty({(g.n + g.b - 1) / g.b, columns}, DType::kFloat64, stream);
      kernels::block_norms(dense, g.b, all, stream);
      const std::vector<double> of_live = live.to_vector<double>();
      const std::vector<double> of_all = all.to_vector<double>();
      for (std::size_t r = 0; r + 1 < pattern.crow.size(); ++r) {
        for (auto p = pattern.crow[r]; p < pattern.crow[r + 1]; ++p) {
          const auto at = static_cast<std::size_t>(p);
          const std::size_t block = r * static_cast<std::size_t>(columns);
          CHECK(of_live[at] == of_all[block + static_cast<std::size_t>(pattern.col[at])]);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("blocks move to new places and leave the others alone", T, float, double) {
  const Stream& stream = test::test_stream();
  const Tensor values = test::random_tensor({3, 8, 8}, kDTypeOf<T>, stream, 1);
  const Tensor held = test::random_tensor({5, 8, 8}, kDTypeOf<T>, stream, 2);
  const std::vector<std::int64_t> source{2, -1, 0, 2, -1};
  Tensor moved = held.clone();
  kernels::move_blocks(values, Tensor::from(source, {5}, stream), moved, stream);
  for (std::int64_t p = 0; p < 5; ++p) {
    const std::int64_t from = source[static_cast<std::size_t>(p)];
    CHECK(test::same_bytes(moved.rows(p, 1), from < 0 ? held.rows(p, 1) : values.rows(from, 1)));
  }
  Tensor none = Tensor::empty({0, 8, 8}, kDTypeOf<T>, stream);
  kernels::move_blocks(values, Tensor::zeros({0}, DType::kInt64, stream), none, stream);
}

TEST_CASE("block kernels refuse what does not fit") {
  const Stream& stream = test::test_stream();
  const test::BlockPattern pattern = test::random_pattern(16, 24, 8, 1, 3);
  Tensor values = Tensor::zeros(pattern.values_shape(), DType::kFloat32, stream);
  Tensor dense = Tensor::zeros({16, 24}, DType::kFloat32, stream);
  Tensor other = Tensor::zeros({24, 16}, DType::kFloat32, stream);
  Tensor norms = Tensor::zeros({2, 3}, DType::kFloat32, stream);
  const kernels::BsrIndex index = pattern.index();
  CHECK_THROWS_AS(kernels::gather_blocks(other, index, values, stream), ShapeError);
  CHECK_THROWS_AS(kernels::gather_blocks(dense, index, dense, stream), ShapeError);
  CHECK_THROWS_AS(kernels::accumulate_blocks(other, index, values, stream), ShapeError);
  CHECK_THROWS_AS(kernels::scatter_blocks(values, index, other, stream), ShapeError);
  CHECK_THROWS_AS(kernels::block_norms(dense, 8, norms, stream), DtypeError);
  CHECK_THROWS_AS(kernels::block_dot(dense, other, 8, norms, stream), ShapeError);
  CHECK_THROWS_AS(
      kernels::live_block_norms(values, index, Tensor::zeros({5}, DType::kFloat64, stream), stream),
      ShapeError);
  const Tensor source = Tensor::zeros({6}, DType::kInt64, stream);
  Tensor moved = values.clone();
  CHECK_THROWS_AS(kernels::move_blocks(dense, source, moved, stream), ShapeError);
  CHECK_THROWS_AS(
      kernels::move_blocks(values, Tensor::zeros({5}, DType::kInt64, stream), moved, stream),
      ShapeError);
  CHECK_THROWS_AS(
      kernels::move_blocks(values, Tensor::zeros({6}, DType::kInt32, stream), moved, stream),
      DtypeError);
}

TEST_CASE_TEMPLATE("blocks are blended by factors of their own", T, float, double) {
  const Stream& stream = test::test_stream();
  for (const Grid& g : kGrids) {
    CAPTURE(g.n);
    const std::int64_t columns = (g.k + g.b - 1) / g.b;
    const Shape grid{(g.n + g.b - 1) / g.b, columns};
    const Tensor x = test::random_tensor({g.n, g.k}, kDTypeOf<T>, stream, 1);
    const Tensor y = test::random_tensor({g.n, g.k}, kDTypeOf<T>, stream, 2);
    const Tensor a = test::random_tensor(grid, DType::kFloat64, stream, 3);
    const Tensor b = test::random_tensor(grid, DType::kFloat64, stream, 4);
    const std::vector<T> xs = x.to_vector<T>();
    const std::vector<T> ys = y.to_vector<T>();
    const std::vector<double> as = a.to_vector<double>();
    const std::vector<double> bs = b.to_vector<double>();
    std::vector<T> one;
    std::vector<T> two;
    for (std::int64_t i = 0; i < g.n * g.k; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const auto block = static_cast<std::size_t>(i / g.k / g.b * columns + i % g.k / g.b);
      one.push_back(static_cast<T>(as[block] * xs[at]));
      two.push_back(static_cast<T>(as[block] * xs[at] + bs[block] * ys[at]));
    }
    constexpr double kTolerance = 4 * static_cast<double>(std::numeric_limits<T>::epsilon());
    Tensor out = test::poisoned({g.n, g.k}, kDTypeOf<T>, stream);
    kernels::blend_blocks({.x = x, .a = a, .y = {}, .b = {}, .block = g.b, .out = out}, stream);
    HEW_CHECK_CLOSE(out, Tensor::from(one, out.shape(), stream), kTolerance, kTolerance);
    kernels::blend_blocks({.x = x, .a = a, .y = y, .b = b, .block = g.b, .out = out}, stream);
    HEW_CHECK_CLOSE(out, Tensor::from(two, out.shape(), stream), kTolerance, kTolerance);
    Tensor in_place = y.clone();
    kernels::blend_blocks({.x = x, .a = a, .y = in_place, .b = b, .block = g.b, .out = in_place},
                          stream);
    CHECK(test::same_bytes(in_place, out));
  }
}

}  // namespace hew
