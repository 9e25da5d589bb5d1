#include "app/bench_bsr_products.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "core/beside.h"
#include "kernels/bsr.h"
#include "kernels/elementwise.h"
#include "kernels/folded_weight.h"
#include "kernels/linear.h"

namespace hew {
namespace {

using Body = std::function<void()>;

struct Sizes {
  double live = 0;  // elements
  double used_rows = 0;
  double used_cols = 0;
};

Sizes sizes_of(const sparsity::BsrPattern& pattern) {
  const sparsity::BlockGrid& grid = pattern.grid();
  std::vector<double> rows(static_cast<std::size_t>(grid.block_rows()), 0);
  std::vector<double> cols(static_cast<std::size_t>(grid.block_cols()), 0);
  Sizes sizes;
  for (const std::int64_t at : pattern.live_blocks()) {
    const std::int64_t r = at / grid.block_cols();
    const std::int64_t c = at % grid.block_cols();
    const auto height = static_cast<double>(std::min(grid.block, grid.rows - r * grid.block));
    const auto width = static_cast<double>(std::min(grid.block, grid.cols - c * grid.block));
    rows[static_cast<std::size_t>(r)] = height;
    cols[static_cast<std::size_t>(c)] = width;
    sizes.live += height * width;
  }
  for (const double height : rows) sizes.used_rows += height;
  for (const double width : cols) sizes.used_cols += width;
  return sizes;
}

// One product both ways.
struct Sides {
  std::function<Body(const sparsity::BsrPattern&)> sparse;
  Body dense;
  Tensor result;                      // of the sparse side
  std::function<Tensor()> reference;  // the same from the dense side; may be overwritten
};

Sides forward(const BsrOperands& t, const BsrWeight& weight, kernels::FoldedWeight* folded) {
  return {.sparse =
              [&, folded, y = t.y](const sparsity::BsrPattern& pattern) {
                return [&, folded, y, index = pattern.index()]() mutable {
                  kernels::bsr_forward(
                      {.x = t.x, .values = weight.values, .index = index, .y = y, .folded = folded},
                      y.stream());
                };
              },
          .dense =
              [&, y = t.dense_y]() mutable {
                kernels::linear_forward({.x = t.x, .w = weight.dense, .y = y}, y.stream());
              },
          .result = t.y,
          .reference = [&] { return t.dense_y; }};
}

Sides input_gradient(const BsrOperands& t, const BsrWeight& weight, kernels::FoldedWeight* folded) {
  return {
      .sparse =
          [&, folded, dx = t.dx](const sparsity::BsrPattern& pattern) {
            return [&, folded, dx, index = pattern.index()]() mutable {
              kernels::bsr_input_gradient(
                  {.dy = t.dy, .values = weight.values, .index = index, .dx = dx, .folded = folded},
                  dx.stream());
            };
          },
      .dense =
          [&, dx = t.dense_dx]() mutable {
            kernels::linear_input_gradient({.dy = t.dy, .w = weight.dense, .dx = dx}, dx.stream());
          },
      .result = t.dx,
      .reference = [&] { return t.dense_dx; }};
}

Sides weight_gradient(const BsrOperands& t, const BsrWeight& weight) {
  return {.sparse =
              [&, dvalues = weight.dvalues](const sparsity::BsrPattern& pattern) {
                return [&, dvalues, index = pattern.index()]() mutable {
                  kernels::bsr_weight_gradient(
                      {.dy = t.dy, .x = t.x, .index = index, .dvalues = dvalues}, dvalues.stream());
                };
              },
          .dense =
              [&, dw = t.dense_dw]() mutable {
                kernels::linear_weight_gradient({.dy = t.dy, .x = t.x, .dw = dw}, dw.stream());
              },
          .result = weight.dvalues,
          .reference = [&] { return sparsity::gather(t.dense_dw, weight.pattern); }};
}

// A null `folded`: W is folded each time.
Sides sides_of(BsrProduct product, const BsrOperands& operands, const BsrWeight& weight,
               kernels::FoldedWeight* folded = nullptr) {
  switch (product) {
    case BsrProduct::kForward:
      return forward(operands, weight, folded);
    case BsrProduct::kInputGradient:
      return input_gradient(operands, weight, folded);
    case BsrProduct::kWeightGradient:
      break;
  }
  return weight_gradient(operands, weight);
}

// The greater of two errors; a NaN stays.
double worse(double a, double b) {
  return b <= a ? a : b;
}

// Runs one way after NaN, and says how far it is off the dense side's last result.
double error_of(const Body& body, const Sides& sides) {
  Tensor result = sides.result;
  kernels::fill(std::numeric_limits<double>::quiet_NaN(), result, result.stream());
  body();
  sides.dense();
  return relative_error(result, sides.reference());
}

}  // namespace

double relative_error(const Tensor& result, Tensor reference) {
  const Stream& stream = result.stream();
  const double norm = kernels::sum_of_squares(reference, stream);
  kernels::scale(-1.0, reference, stream);
  kernels::add(result, reference, reference, stream);
  return std::sqrt(kernels::sum_of_squares(reference, stream) / norm);
}

BsrWork work_of(BsrProduct product, std::int64_t tokens, const sparsity::BsrPattern& pattern,
                DType dtype) {
  const Sizes sizes = sizes_of(pattern);
  const auto m = static_cast<double>(tokens);
  const auto element = static_cast<double>(size_of(dtype));
  BsrWork work{.flops = 2 * m * sizes.live};
  switch (product) {
    case BsrProduct::kForward:
      work.bytes =
          element * (m * (sizes.used_cols + static_cast<double>(pattern.grid().rows)) + sizes.live);
      break;
    case BsrProduct::kInputGradient:
      work.bytes =
          element * (m * (sizes.used_rows + static_cast<double>(pattern.grid().cols)) + sizes.live);
      break;
    case BsrProduct::kWeightGradient:
      work.bytes = element * m * (sizes.used_cols + sizes.used_rows) +
                   static_cast<double>(size_of(accumulator_of(dtype))) * sizes.live;
      break;
  }
  return work;
}

BsrOperands::BsrOperands(const BsrShape& shape, DType dtype, RandomTensors& random)
    : x(random.normal({shape.m, shape.k}, dtype)),
      dy(random.normal({shape.m, shape.n}, dtype)),
      y(Tensor::empty(dy.shape(), dtype, x.stream())),
      dx(Tensor::empty(x.shape(), dtype, x.stream())),
      dense_y(Tensor::empty(dy.shape(), dtype, x.stream())),
      dense_dx(Tensor::empty(x.shape(), dtype, x.stream())),
      dense_dw(Tensor::empty({shape.n, shape.k}, accumulator_of(dtype), x.stream())) {}

BsrWeight::BsrWeight(BsrPatternKind kind, const sparsity::BlockGrid& grid, double sparsity,
                     RandomTensors& random, const BsrOperands& operands)
    : pattern(draw_pattern(kind, grid, sparsity, operands.x.stream())),
      values(
          random.normal({pattern.nnzb(), grid.block, grid.block}, operands.x.dtype(),
                        1 / std::sqrt((1 - pattern.sparsity()) * static_cast<double>(grid.cols)))),
      dvalues(Tensor::empty(values.shape(), operands.dense_dw.dtype(), operands.x.stream())),
      dense(sparsity::scatter(values, pattern)) {
  // A product may trust the padding of ragged blocks to be zero.
  values = sparsity::gather(dense, pattern);
  if (kind != BsrPatternKind::kRandom)
    uniform = draw_pattern(BsrPatternKind::kRandom, grid, sparsity, operands.x.stream());
}

BsrTimes time_product(BsrProduct product, const BsrOperands& operands, const BsrWeight& weight,
                      const BenchTurns& turns) {
  const Stream& stream = operands.x.stream();
  const Sides sides = sides_of(product, operands, weight);
  std::vector<Body> bodies{sides.sparse(weight.pattern), sides.dense};
  BsrTimes times{.error = error_of(bodies.front(), sides)};
  if (weight.uniform)
    bodies.push_back(sides.sparse(*weight.uniform));
  kernels::FoldedWeight folded;
  const Body kept = sides_of(product, operands, weight, &folded).sparse(weight.pattern);
  if (product != BsrProduct::kWeightGradient)
    kept();
  const bool folds = folded.kept().defined();
  if (folds) {
    times.error = worse(times.error, error_of(kept, sides));
    bodies.push_back(kept);
  }
  const std::vector<double> seconds = median_seconds(bodies, turns, stream);
  times.sparse = seconds[0];
  times.dense = seconds[1];
  if (weight.uniform)
    times.uniform = seconds[2];
  if (folds)
    times.kept = seconds.back();
  return times;
}

BsrLayerTimes time_layer(const BsrOperands& operands, const BsrWeight& weight,
                         const BenchTurns& turns) {
  const Stream& stream = operands.x.stream();
  kernels::FoldedWeight folded;
  const std::array sides{forward(operands, weight, &folded), weight_gradient(operands, weight),
                         input_gradient(operands, weight, &folded)};
  const Body sparse = [&, first = sides[0].sparse(weight.pattern),
                       last = sides[2].sparse(weight.pattern), dvalues = weight.dvalues]() mutable {
    folded.drop();
    first();
    Beside beside(stream);
    kernels::bsr_weight_gradient({.dy = operands.dy,
                                  .x = operands.x,
                                  .index = weight.pattern.index(),
                                  .dvalues = dvalues,
                                  .beside = &beside},
                                 stream);
    last();
  };
  const Body dense = [&] {
    for (const Sides& product : sides) product.dense();
  };
  for (const Sides& product : sides) {
    Tensor result = product.result;
    kernels::fill(std::numeric_limits<double>::quiet_NaN(), result, stream);
  }
  sparse();
  dense();
  BsrLayerTimes times;
  for (const Sides& product : sides)
    times.error = worse(times.error, relative_error(product.result, product.reference()));
  const std::vector<double> seconds = median_seconds(std::vector{sparse, dense}, turns, stream);
  times.sparse = seconds[0];
  times.dense = seconds[1];
  return times;
}

BsrRouteResults time_routes(BsrProduct product, const BsrOperands& operands,
                            const BsrWeight& weight, const BenchTurns& turns) {
  const Stream& stream = operands.x.stream();
  kernels::BsrFolding& folding = stream.state->get<kernels::BsrSettings>(stream).folding;
  const kernels::BsrFolding before = folding;
  const Sides sides = sides_of(product, operands, weight);
  kernels::FoldedWeight folded;
  const Sides sharing = sides_of(product, operands, weight, &folded);
  std::vector<Body> bodies;
  BsrRouteResults results;
  const auto add = [&](kernels::BsrFolding way, const Body& body) {
    bodies.push_back([&folding, way, body] {
      folding = way;
      body();
    });
    results.error = worse(results.error, error_of(bodies.back(), sides));
  };
  add(kernels::BsrFolding::kOwn, sides.sparse(weight.pattern));
  add(kernels::BsrFolding::kFolded, sides.sparse(weight.pattern));
  if (product != BsrProduct::kWeightGradient)
    add(kernels::BsrFolding::kFolded, sharing.sparse(weight.pattern));
  const std::vector<double> seconds = median_seconds(bodies, turns, stream);
  folding = before;
  results.times = {.own = seconds[0], .folded = (seconds[1] + seconds.back()) / 2};
  return results;
}

}  // namespace hew
