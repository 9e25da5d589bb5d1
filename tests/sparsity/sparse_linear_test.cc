#include "sparsity/sparse_linear.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/linear.h"
#include "core/rng.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew::sparsity {
namespace {

struct Case {
  BlockGrid grid;
  double density;
};

// Ragged in both directions, of several block sizes; 0 is one block.
const std::vector<Case> kCases{{{13, 19, 8}, 0.5},
                               {{24, 16, 8}, 1.0},
                               {{17, 33, 16}, 0.4},
                               {{40, 7, 32}, 1.0},
                               {{9, 9, 8}, 0.0}};

PatternPtr random_pattern(const Case& c, const Stream& stream) {
  MaskBytes mask;
  for (std::int64_t b = 0; b < c.grid.blocks(); ++b) {
    mask.push_back(uniform(7, 0, static_cast<std::uint64_t>(b)) < c.density ? 1 : 0);
  }
  if (c.density == 0)
    mask.back() = 1;
  return std::make_shared<const BsrPattern>(c.grid, mask, stream);
}

}  // namespace

TEST_CASE("gradients of the block-sparse product agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const Case& c : kCases) {
    for (const kernels::Activation act :
         {kernels::Activation::kNone, kernels::Activation::kGeluTanh}) {
      const PatternPtr pattern = random_pattern(c, stream);
      const Tensor dense =
          test::random_tensor({c.grid.rows, c.grid.cols}, DType::kFloat64, stream, 2);
      const auto result = test::gradcheck(
          [&](const std::vector<ag::Variable>& in) {
            return sparse_linear(
                {.x = in[0],
                 .layer = {.values = in[1], .probe = {}, .bias = in[2], .pattern = pattern},
                 .activation = act});
          },
          {test::random_tensor({5, c.grid.cols}, DType::kFloat64, stream, 1),
           gather(dense, *pattern),
           test::random_tensor({c.grid.rows}, DType::kFloat64, stream, 3)});
      // Padding takes part in neither side: its numeric and analytic gradients are both zero.
      CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
    }
  }
}

TEST_CASE("the probe's gradient is the dense G, whatever is live") {
  const Stream& stream = test::test_stream();
  const Case c{{13, 19, 8}, 0.4};
  const PatternPtr pattern = random_pattern(c, stream);
  const ag::Variable x(test::random_tensor({7, 19}, DType::kFloat64, stream, 1), true);
  ag::Variable values(gather(test::random_tensor({13, 19}, DType::kFloat64, stream, 2), *pattern),
                      true);
  ag::Variable probe(Tensor::meta({13, 19}, DType::kFloat64, stream), true);
  const Tensor dy = test::random_tensor({7, 13}, DType::kFloat64, stream, 4);
  ag::backward(
      sparse_linear(
          {.x = x, .layer = {.values = values, .probe = probe, .bias = {}, .pattern = pattern}}),
      dy);
  Tensor expected = Tensor::empty({13, 19}, DType::kFloat64, stream);
  kernels::linear_weight_gradient({.dy = dy, .x = x.value(), .dw = expected}, stream);
  HEW_CHECK_CLOSE(probe.grad(), expected, 1e-14, 1e-14);
  HEW_CHECK_CLOSE(values.grad(), gather(expected, *pattern), 1e-14, 1e-14);
}

TEST_CASE("a masked master follows methods.md section 2") {
  const Stream& stream = test::test_stream();
  for (const Case& c : kCases) {
    const PatternPtr pattern = random_pattern(c, stream);
    const std::int64_t n = c.grid.rows;
    const std::int64_t k = c.grid.cols;
    const ag::Variable x(test::random_tensor({6, k}, DType::kFloat64, stream, 1), true);
    ag::Variable w(test::random_tensor({n, k}, DType::kFloat64, stream, 2), true);
    ag::Variable s(
        test::random_tensor({c.grid.block_rows(), c.grid.block_cols()}, DType::kFloat64, stream, 3),
        true);
    const Tensor dy = test::random_tensor({6, n}, DType::kFloat64, stream, 4);
    const ag::Variable bias(test::random_tensor({n}, DType::kFloat64, stream, 5), true);
    const ag::Variable y = masked_linear({.x = x,
                                          .weight = w,
                                          .scores = s,
                                          .probe = {},
                                          .bias = bias,
                                          .pattern = pattern,
                                          .soft = {},
                                          .activation = kernels::Activation::kGeluTanh});
    ag::backward(y, dy);
    // The same through the dense product of the folded weight.
    const ag::Variable folded(scatter(gather(w.value(), *pattern), *pattern), true);
    const ag::Variable x2(x.value(), true);
    const ag::Variable bias2(bias.value(), true);
    const ag::Variable y2 = ag::linear(x2, folded, bias2, kernels::Activation::kGeluTanh);
    ag::backward(y2, dy);
    HEW_CHECK_CLOSE(y.value(), y2.value(), 1e-13, 1e-13);
    HEW_CHECK_CLOSE(x.grad(), x2.grad(), 1e-13, 1e-13);
    HEW_CHECK_CLOSE(bias.grad(), bias2.grad(), 1e-13, 1e-13);
    const MaskBytes mask = pattern->mask();
    const std::vector<double> dfolded = folded.grad().to_vector<double>();
    const std::vector<double> values = w.value().to_vector<double>();
    std::vector<double> dw(static_cast<std::size_t>(n * k));
    std::vector<double> ds(mask.size(), 0.0);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < k; ++j) {
        const auto at = static_cast<std::size_t>(i * k + j);
        const auto block =
            static_cast<std::size_t>(i / c.grid.block * c.grid.block_cols() + j / c.grid.block);
        const double g = dfolded[at];
        dw[at] = mask[block] != 0 ? g : 0;
        ds[block] += g * values[at];
      }
    }
    HEW_CHECK_CLOSE(w.grad(), Tensor::from(dw, {n, k}, stream), 1e-13, 1e-13);
    HEW_CHECK_CLOSE(s.grad(), Tensor::from(ds, s.shape(), stream), 1e-12, 1e-12);
  }
}

namespace {

// The soft mask of W whose slope is that of `like`, β being what it takes.
SoftMask with_slope_of(const SoftMask& like, const SoftMaskRequest& request) {
  const double own = soft_masks({{request}}).front().slope.to_vector<double>().front();
  SoftMaskRequest scaled = request;
  scaled.sharpness *= like.slope.to_vector<double>().front() / own;
  return soft_masks({{scaled}}).front();
}

}  // namespace

TEST_CASE(
    "a soft mask's gradient agrees with central differences where all blocks are multiplied") {
  const Stream& stream = test::test_stream();
  constexpr double kStep = 1e-6;
  const BlockGrid grid{.rows = 13, .cols = 19, .block = 8};
  const PatternPtr all =
      std::make_shared<const BsrPattern>(grid, MaskBytes(6, 1), stream);  // no choice of blocks
  const Tensor x = test::random_tensor({5, 19}, DType::kFloat64, stream, 1);
  const Tensor dy = test::random_tensor({5, 13}, DType::kFloat64, stream, 4);
  ag::Variable w(test::random_tensor({13, 19}, DType::kFloat64, stream, 2), true);
  SoftMaskRequest request{.weight = w.value(), .grid = grid, .keep = 2, .sharpness = 2};
  const SoftMask soft = soft_masks({{request}}).front();
  const auto product = [&](const ag::Variable& weight, const SoftMask& mask) {
    return masked_linear({.x = ag::Variable(x),
                          .weight = weight,
                          .scores = {},
                          .probe = {},
                          .bias = {},
                          .pattern = all,
                          .soft = mask});
  };
  ag::backward(product(w, soft), dy);
  const std::vector<double> gradient = w.grad().to_vector<double>();
  const std::vector<double> values = w.value().to_vector<double>();
  const std::vector<double> weights = dy.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto loss_at = [&](double moved) {
      std::vector<double> at = values;
      at[i] += moved;
      const Tensor tensor = Tensor::from(at, {13, 19}, stream);
      request.weight = tensor;
      const std::vector<double> y =
          product(ag::Variable(tensor), with_slope_of(soft, request)).value().to_vector<double>();
      double loss = 0;
      for (std::size_t j = 0; j < y.size(); ++j) loss += y[j] * weights[j];
      return loss;
    };
    const double slope = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
    CHECK(std::abs(gradient[i] - slope) <= 1e-7);
  }
}

TEST_CASE("the choice of blocks does not change a soft mask's gradient rule") {
  const Stream& stream = test::test_stream();
  for (const Case& c : kCases) {
    const PatternPtr pattern = random_pattern(c, stream);
    const std::int64_t n = c.grid.rows;
    const std::int64_t k = c.grid.cols;
    const Tensor x = test::random_tensor({6, k}, DType::kFloat64, stream, 1);
    const Tensor dy = test::random_tensor({6, n}, DType::kFloat64, stream, 4);
    ag::Variable w(test::random_tensor({n, k}, DType::kFloat64, stream, 2), true);
    const std::vector<SoftMaskRequest> request{
        {.weight = w.value(), .grid = c.grid, .keep = pattern->nnzb(), .sharpness = 3}};
    const SoftMask soft = soft_masks(request).front();
    const ag::Variable y = masked_linear({.x = ag::Variable(x),
                                          .weight = w,
                                          .scores = {},
                                          .probe = {},
                                          .bias = {},
                                          .pattern = pattern,
                                          .soft = soft});
    ag::backward(y, dy);
    const Tensor product = softened(w.value(), soft, c.grid.block);
    Tensor expected = Tensor::empty({6, n}, DType::kFloat64, stream);
    kernels::linear_forward({.x = x,
                             .w = scatter(gather(product, *pattern), *pattern),
                             .bias = {},
                             .y = expected,
                             .pre = {}},
                            stream);
    HEW_CHECK_CLOSE(y.value(), expected, 1e-13, 1e-13);
    Tensor g = Tensor::empty({n, k}, DType::kFloat64, stream);
    kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = g}, stream);
    HEW_CHECK_CLOSE(w.grad(), soft_gradient(g, w.value(), soft, c.grid), 1e-12, 1e-12);
  }
}

}  // namespace hew::sparsity
