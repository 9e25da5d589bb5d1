#include "sparsity/sparse_gated_feed_forward.h"

#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "autograd/swiglu.h"
#include "kernels/activation.h"
#include "sparsity/sparse_linear.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/feed_forward_case.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew::sparsity {
namespace {

using test::half_live;
using Size = test::FeedForwardSize;

// Patterns and random values of gate, up and down.
struct Layers {
  std::array<PatternPtr, 3> patterns;
  Tensor x;
  std::array<Tensor, 3> values;
  std::array<Tensor, 3> biases;

  explicit Layers(const Size& s) {
    const Stream& stream = test::test_stream();
    constexpr DType kType = DType::kFloat64;
    const std::array<BlockGrid, 3> grids{
        {{s.hidden, s.width, s.block}, {s.hidden, s.width, s.block}, {s.out, s.hidden, s.block}}};
    x = test::random_tensor({s.tokens, s.width}, kType, stream, 1);
    for (std::size_t i = 0; i < grids.size(); ++i) {
      const BlockGrid& g = grids[i];
      patterns[i] = half_live(g, i + 1, stream);
      values[i] = gather(test::random_tensor({g.rows, g.cols}, kType, stream, i + 2), *patterns[i]);
      biases[i] = test::random_tensor({g.rows}, kType, stream, i + 5);
    }
  }
};

// Leaves of either op.
struct Leaves {
  ag::Variable x;
  std::array<SparseLayer, 3> layers;

  Leaves(const Layers& from, bool probes) : x(from.x, true) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const BlockGrid& grid = from.patterns[i]->grid();
      layers[i] = {.values = ag::Variable(from.values[i], true),
                   .probe = {},
                   .bias = ag::Variable(from.biases[i], true),
                   .pattern = from.patterns[i]};
      if (probes)
        layers[i].probe = ag::Variable(
            Tensor::meta({grid.rows, grid.cols}, from.x.dtype(), from.x.stream()), true);
    }
  }
  std::vector<Tensor> gradients() {
    std::vector<Tensor> out{x.grad()};
    for (SparseLayer& layer : layers) {
      out.insert(out.end(), {layer.values.grad(), layer.bias.grad()});
      if (layer.probe)
        out.push_back(layer.probe.grad());
    }
    return out;
  }
};

ag::Variable fused(const Leaves& l) {
  return sparse_gated_feed_forward(
      {.x = l.x, .gate = l.layers[0], .up = l.layers[1], .down = l.layers[2]});
}

ag::Variable linear(const ag::Variable& x, const SparseLayer& layer) {
  return sparse_linear({.x = x, .layer = layer});
}

ag::Variable composed(const Leaves& l) {
  return linear(ag::swiglu(linear(l.x, l.layers[0]), linear(l.x, l.layers[1])), l.layers[2]);
}

}  // namespace

TEST_CASE("gradients of a gated block-sparse feed-forward agree with central differences") {
  for (const Size& size : test::kFeedForwardSizes) {
    const Layers layers(size);
    const auto& [of_gate, of_up, of_down] = layers.patterns;
    const auto& [gate, up, down] = layers.values;
    const auto with_biases = test::gradcheck(
        [&](const std::vector<ag::Variable>& in) {
          return sparse_gated_feed_forward({.x = in[0],
                                            .gate = {in[1], {}, in[4], of_gate},
                                            .up = {in[2], {}, in[5], of_up},
                                            .down = {in[3], {}, in[6], of_down}});
        },
        {layers.x, gate, up, down, layers.biases[0], layers.biases[1], layers.biases[2]});
    CHECK_MESSAGE(with_biases.max_relative_error <= 1e-6, with_biases.worst);
    const auto without = test::gradcheck(
        [&](const std::vector<ag::Variable>& in) {
          return sparse_gated_feed_forward({.x = in[0],
                                            .gate = {in[1], {}, {}, of_gate},
                                            .up = {in[2], {}, {}, of_up},
                                            .down = {in[3], {}, {}, of_down}});
        },
        {layers.x, gate, up, down});
    CHECK_MESSAGE(without.max_relative_error <= 1e-6, without.worst);
  }
}

TEST_CASE("a gated block-sparse feed-forward is its parts, over two micro-batches, with probes") {
  for (const Size& size : test::kFeedForwardSizes) {
    for (const bool probes : {false, true}) {
      CAPTURE(probes);
      const Layers layers(size);
      Leaves one(layers, probes);
      Leaves two(layers, probes);
      for (const std::uint64_t seed : {7, 8}) {
        const Tensor dy = test::random_tensor({size.tokens, size.out}, DType::kFloat64,
                                              test::test_stream(), seed);
        const ag::Variable y = fused(one);
        const ag::Variable wanted = composed(two);
        CHECK(test::same_bytes(y.value(), wanted.value()));
        ag::backward(y, dy);
        ag::backward(wanted, dy);
      }
      const std::vector<Tensor> got = one.gradients();
      const std::vector<Tensor> expected = two.gradients();
      for (std::size_t i = 0; i < got.size(); ++i) {
        CAPTURE(i);
        HEW_CHECK_CLOSE(got[i], expected[i], 1e-13, 1e-12);
      }
    }
  }
}

TEST_CASE("a gated block-sparse feed-forward gives gradients only to the inputs that want one") {
  const Layers layers(test::kFeedForwardSizes[0]);
  Leaves leaves(layers, /*probes=*/false);
  leaves.x = leaves.x.detach();
  leaves.layers[0].bias = leaves.layers[0].bias.detach();
  leaves.layers[2].values = leaves.layers[2].values.detach();
  ag::backward(fused(leaves));
  CHECK_FALSE(leaves.x.grad().defined());
  CHECK_FALSE(leaves.layers[0].bias.grad().defined());
  CHECK_FALSE(leaves.layers[2].values.grad().defined());
  CHECK(leaves.layers[0].values.grad().defined());
  CHECK(leaves.layers[1].values.grad().defined());
  CHECK(leaves.layers[2].bias.grad().defined());
}

}  // namespace hew::sparsity
