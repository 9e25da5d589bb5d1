#include "kernels/bsr_mlp.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/bsr_mlp_route.h"
#include "kernels/bsr_mlp_schedule.h"
#include "kernels/linear.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using kernels::Activation;
using kernels::BsrMlpArgs;
using kernels::BsrMlpProblem;
using kernels::BsrMlpRoute;
using test::BlockPattern;
using test::random_pattern;

// [M, C] → [M, F] → [M, C'], blocks of two sizes.
struct Mlp {
  BlockPattern up;
  BlockPattern down;
  Tensor x;
  Tensor up_values;
  Tensor up_bias;
  Tensor down_values;
  Tensor down_bias;

  Mlp(std::int64_t tokens, BlockPattern first, BlockPattern second)
      : up(std::move(first)), down(std::move(second)) {
    x = random({tokens, up.cols}, 1);
    up_values = with_zero_padding(random(up.values_shape(), 2), up);
    up_bias = random({up.rows}, 3);
    down_values = with_zero_padding(random(down.values_shape(), 4), down);
    down_bias = random({down.rows}, 5);
  }
  static Tensor random(const Shape& shape, std::uint64_t seed) {
    return test::random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed);
  }
  BsrMlpArgs args(Tensor& y) const {
    return {.x = x,
            .up_values = up_values,
            .up = up.index(),
            .up_bias = up_bias,
            .activation = Activation::kGelu,
            .down_values = down_values,
            .down = down.index(),
            .down_bias = down_bias,
            .y = y};
  }
};

// Just this share of the blocks of 64, whichever.
BlockPattern pattern_with(std::int64_t rows, std::int64_t cols, double density,
                          std::uint64_t seed) {
  const std::int64_t width = cols / 64;
  std::vector<double> rank;
  for (std::int64_t i = 0; i < rows / 64 * width; ++i)
    rank.push_back(uniform(seed, 1, static_cast<std::uint64_t>(i)));
  std::vector<double> sorted = rank;
  std::sort(sorted.begin(), sorted.end());
  const auto live = static_cast<std::size_t>(density * static_cast<double>(rank.size()));
  const double last = sorted.at(live - 1);
  return test::make_pattern(rows, cols, 64, [&](std::int64_t r, std::int64_t c) {
    return rank[static_cast<std::size_t>(r * width + c)] <= last;
  });
}

// Of ViT-B; 256 images are 50432 tokens.
BsrMlpProblem problem(double density, std::int64_t tokens) {
  const BlockPattern up = pattern_with(3072, 768, density, 1);
  const BlockPattern down = pattern_with(768, 3072, density, 2);
  const auto product = [&](const BlockPattern& p) {
    return kernels::BsrProblem{.tokens = tokens,
                               .rows = p.rows,
                               .cols = p.cols,
                               .block = p.block,
                               .nnzb = p.nnzb(),
                               .hopper = true};
  };
  const auto program = kernels::hopper::mlp_program(up.index(), down.index());
  return {.up = product(up),
          .down = product(down),
          .activation = Activation::kGelu,
          .tile_tokens = program.tile.tokens,
          .hidden_strips = program.hidden_strips,
          .boxes = program.blocks};
}

// Milliseconds of both ways on an H100, with 256 images.
struct Measured {
  double sparsity;
  double fused;
  double products;
};
constexpr Measured kMeasured[] = {{0.5, 1.0321, 0.6485},
                                  {0.7, 0.7118, 0.5271},
                                  {0.8, 0.5409, 0.4553},
                                  {0.9, 0.3293, 0.3889},
                                  {0.95, 0.1961, 0.3479}};

}  // namespace

TEST_CASE("a block-sparse MLP is its two layers with dense weights") {
  for (const std::int64_t tokens : {1, 7}) {
    const Mlp mlp(tokens, random_pattern(53, 19, 8, 0.5, 1), random_pattern(21, 53, 16, 0.5, 2));
    const Stream cpu = make_cpu_stream();
    Tensor hidden = Tensor::empty({tokens, 53}, DType::kFloat64, cpu);
    Tensor expected = Tensor::empty({tokens, 21}, DType::kFloat64, cpu);
    const Tensor up = fold(mlp.up_values, mlp.up);
    const Tensor down = fold(mlp.down_values, mlp.down);
    kernels::linear_forward(
        {.x = mlp.x, .w = up, .bias = mlp.up_bias, .activation = Activation::kGelu, .y = hidden},
        cpu);
    kernels::linear_forward({.x = hidden, .w = down, .bias = mlp.down_bias, .y = expected}, cpu);
    Tensor y = Tensor::zeros({tokens, 21}, DType::kFloat64, cpu);
    kernels::bsr_mlp_forward(mlp.args(y), cpu);
    HEW_CHECK_CLOSE(y, expected, 1e-12, 1e-12);
  }
}

TEST_CASE("a block-sparse MLP names what does not fit") {
  const Mlp mlp(3, random_pattern(16, 24, 8, 0.5, 1), random_pattern(24, 16, 8, 0.5, 2));
  const Stream cpu = make_cpu_stream();
  Tensor y = Tensor::zeros({3, 24}, DType::kFloat64, cpu);
  BsrMlpArgs args = mlp.args(y);
  CHECK_NOTHROW(kernels::bsr_mlp_forward(args, cpu));
  args.down.cols = 24;
  CHECK_THROWS_WITH_AS(kernels::bsr_mlp_forward(args, cpu),
                       "[bsr_mlp_forward] down has 24 columns, expected 16", ShapeError);
  args = mlp.args(y);
  args.up_bias = mlp.down_bias;
  CHECK_THROWS_AS(kernels::bsr_mlp_forward(args, cpu), ShapeError);
  args = mlp.args(y);
  args.x.shape = {3, 16};
  CHECK_THROWS_AS(kernels::bsr_mlp_forward(args, cpu), ShapeError);
  args = mlp.args(y);
  args.y.dtype = DType::kFloat32;
  CHECK_THROWS_AS(kernels::bsr_mlp_forward(args, cpu), DtypeError);
}

TEST_CASE("no schedule is made for a CPU") {
  const BlockPattern up = random_pattern(128, 64, 64, 1, 1);
  const BlockPattern down = random_pattern(64, 128, 64, 1, 1);
  CHECK(kernels::mlp_schedule_for(up.index(), down.index(), make_cpu_stream()) == nullptr);
}

TEST_CASE("an MLP takes the way that was measured to be the faster one") {
  for (const Measured& m : kMeasured) {
    CAPTURE(m.sparsity);
    const BsrMlpProblem p = problem(1 - m.sparsity, 50432);
    const double chosen = cheapest_route(p) == BsrMlpRoute::kFused ? m.fused : m.products;
    CHECK(chosen <= 1.02 * std::min(m.fused, m.products));
    const double fused = 1e3 * estimated_seconds(BsrMlpRoute::kFused, p);
    const double products = 1e3 * estimated_seconds(BsrMlpRoute::kProducts, p);
    CAPTURE(fused);
    CAPTURE(products);
    CHECK(std::abs(fused / m.fused - 1) <= 0.1);
    CHECK(std::abs(products / m.products - 1) <= 0.1);
  }
}

// One image: 5 tiles, which few multiprocessors make one after the other.
TEST_CASE("an MLP of few tokens is two products unless it has few blocks") {
  for (const double density : {0.1, 0.3, 1.0})
    CHECK(cheapest_route(problem(density, 197)) == BsrMlpRoute::kProducts);
}

TEST_CASE("an MLP's ways cost more with more blocks") {
  for (const BsrMlpRoute route : {BsrMlpRoute::kProducts, BsrMlpRoute::kFused}) {
    double before = 0;
    for (const double density : {0.02, 0.1, 0.3, 0.6, 1.0}) {
      const double seconds = estimated_seconds(route, problem(density, 8192));
      CHECK(seconds >= before);
      before = seconds;
    }
  }
}

}  // namespace hew
