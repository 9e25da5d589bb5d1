#include "kernels/bsr_mlp.h"

#include <doctest/doctest.h>

#include "core/error.h"
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

// Of ViT-B on 256 images.
BsrMlpProblem problem(double density, std::int64_t tokens) {
  constexpr std::int64_t kBlocks = 12 * 48;
  const auto live = static_cast<std::int64_t>(density * kBlocks);
  const auto product = [&](std::int64_t rows, std::int64_t cols) {
    return kernels::BsrProblem{
        .tokens = tokens, .rows = rows, .cols = cols, .block = 64, .nnzb = live, .hopper = true};
  };
  return {.up = product(3072, 768),
          .down = product(768, 3072),
          .activation = Activation::kGelu,
          .tile_tokens = 48,
          .hidden_strips = 48,
          .boxes = 2 * live};
}

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

TEST_CASE("an MLP is fused where its blocks are few and its tokens many") {
  CHECK(cheapest_route(problem(0.05, 50432)) == BsrMlpRoute::kFused);
  CHECK(cheapest_route(problem(0.1, 50432)) == BsrMlpRoute::kFused);
  CHECK(cheapest_route(problem(0.5, 50432)) == BsrMlpRoute::kProducts);
  CHECK(cheapest_route(problem(1, 50432)) == BsrMlpRoute::kProducts);
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
