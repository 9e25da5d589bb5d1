#include "sparsity/sparse_feed_forward.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "kernels/bsr_routes.h"
#include "sparsity/sparse_linear.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/feed_forward_case.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew::sparsity {
namespace {

using kernels::Activation;

using test::half_live;
using Size = test::FeedForwardSize;

// Random values for the five inputs; leaves of either op.
struct Layers {
  PatternPtr up;
  PatternPtr down;
  std::vector<Tensor> values;  // x, up, up's bias, down, down's bias

  explicit Layers(const Size& s, DType dtype = DType::kFloat64) {
    const Stream& stream = test::test_stream();
    up = half_live({s.hidden, s.width, s.block}, 1, stream);
    down = half_live({s.out, s.hidden, s.block}, 2, stream);
    values = {test::random_tensor({s.tokens, s.width}, dtype, stream, 1),
              gather(test::random_tensor({s.hidden, s.width}, dtype, stream, 2), *up),
              test::random_tensor({s.hidden}, dtype, stream, 3),
              gather(test::random_tensor({s.out, s.hidden}, dtype, stream, 4), *down),
              test::random_tensor({s.out}, dtype, stream, 5)};
  }
  Tensor probe_of(const PatternPtr& pattern) const {
    return Tensor::meta({pattern->grid().rows, pattern->grid().cols}, values[0].dtype(),
                        values[0].stream());
  }
};

struct Leaves {
  ag::Variable x, up, up_probe, up_bias, down, down_probe, down_bias;

  Leaves(const Layers& layers, bool probes)
      : x(layers.values[0], true),
        up(layers.values[1], true),
        up_bias(layers.values[2], true),
        down(layers.values[3], true),
        down_bias(layers.values[4], true) {
    if (!probes)
      return;
    up_probe = ag::Variable(layers.probe_of(layers.up), true);
    down_probe = ag::Variable(layers.probe_of(layers.down), true);
  }
  std::vector<Tensor> gradients() {
    std::vector<Tensor> out;
    for (ag::Variable* leaf : {&x, &up, &up_probe, &up_bias, &down, &down_probe, &down_bias}) {
      if (*leaf)
        out.push_back(leaf->grad());
    }
    return out;
  }
};

ag::Variable fused(const Layers& layers, const Leaves& l, Activation activation) {
  return sparse_feed_forward({.x = l.x,
                              .up = {l.up, l.up_probe, l.up_bias, layers.up},
                              .down = {l.down, l.down_probe, l.down_bias, layers.down},
                              .activation = activation});
}

ag::Variable composed(const Layers& layers, const Leaves& l, Activation activation) {
  const ag::Variable h = sparse_linear(
      {.x = l.x, .layer = {l.up, l.up_probe, l.up_bias, layers.up}, .activation = activation});
  return sparse_linear({.x = h, .layer = {l.down, l.down_probe, l.down_bias, layers.down}});
}

}  // namespace

TEST_CASE("gradients of a block-sparse feed-forward agree with central differences") {
  for (const Size& size : test::kFeedForwardSizes) {
    for (const Activation kind : {Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
      CAPTURE(kernels::name_of(kind));
      const Layers layers(size);
      const auto with_biases = test::gradcheck(
          [&](const std::vector<ag::Variable>& in) {
            return sparse_feed_forward({.x = in[0],
                                        .up = {in[1], {}, in[2], layers.up},
                                        .down = {in[3], {}, in[4], layers.down},
                                        .activation = kind});
          },
          layers.values);
      CHECK_MESSAGE(with_biases.max_relative_error <= 1e-6, with_biases.worst);
      const auto without = test::gradcheck(
          [&](const std::vector<ag::Variable>& in) {
            return sparse_feed_forward({.x = in[0],
                                        .up = {in[1], {}, {}, layers.up},
                                        .down = {in[2], {}, {}, layers.down},
                                        .activation = kind});
          },
          {layers.values[0], layers.values[1], layers.values[3]});
      CHECK_MESSAGE(without.max_relative_error <= 1e-6, without.worst);
    }
  }
}

TEST_CASE("a block-sparse feed-forward is its two layers, over two micro-batches, with probes") {
  for (const Size& size : test::kFeedForwardSizes) {
    for (const bool probes : {false, true}) {
      CAPTURE(probes);
      const Layers layers(size);
      Leaves one(layers, probes);
      Leaves two(layers, probes);
      for (const std::uint64_t seed : {7, 8}) {
        const Tensor dy = test::random_tensor({size.tokens, size.out}, DType::kFloat64,
                                              test::test_stream(), seed);
        const ag::Variable y = fused(layers, one, Activation::kGeluTanh);
        const ag::Variable wanted = composed(layers, two, Activation::kGeluTanh);
        CHECK(test::same_bytes(y.value(), wanted.value()));
        ag::backward(y, dy);
        ag::backward(wanted, dy);
      }
      const std::vector<Tensor> got = one.gradients();
      const std::vector<Tensor> expected = two.gradients();
      for (std::size_t i = 0; i < got.size(); ++i) {
        CAPTURE(i);
        HEW_CHECK_CLOSE(got[i], expected[i], 1e-13, 1e-13);
      }
    }
  }
}

TEST_CASE("a block-sparse feed-forward gives gradients only to the inputs that want one") {
  const Layers layers(test::kFeedForwardSizes[0]);
  Leaves leaves(layers, /*probes=*/false);
  leaves.x = leaves.x.detach();
  leaves.up_bias = leaves.up_bias.detach();
  leaves.down = leaves.down.detach();
  ag::backward(fused(layers, leaves, Activation::kSilu));
  CHECK_FALSE(leaves.x.grad().defined());
  CHECK_FALSE(leaves.up_bias.grad().defined());
  CHECK_FALSE(leaves.down.grad().defined());
  CHECK(leaves.up.grad().defined());
  CHECK(leaves.down_bias.grad().defined());
  CHECK_THROWS_AS(fused(layers, leaves, Activation::kNone), Error);
}

TEST_CASE("a block-sparse feed-forward gives the same outside of training") {
  for (const Size& size : test::kFeedForwardSizes) {
    const Layers layers(size);
    const Leaves leaves(layers, /*probes=*/false);
    const ag::Variable y = sparse_feed_forward(
        {.x = leaves.x.detach(),
         .up = {leaves.up.detach(), {}, leaves.up_bias.detach(), layers.up},
         .down = {leaves.down.detach(), {}, leaves.down_bias.detach(), layers.down},
         .activation = Activation::kGelu,
         .training = false});
    CHECK(test::same_bytes(y.value(), fused(layers, leaves, Activation::kGelu).value()));
    CHECK_FALSE(y.requires_grad());
  }
}

// 64 wide blocks in bfloat16, of which one kernel may make the MLP.
TEST_CASE("a block-sparse feed-forward on a GPU is nearly the same outside of training") {
  if (!test::on_gpu())
    return;
  const Stream& gpu = test::gpu_stream();
  kernels::BsrFusing& fusing = gpu.state->get<kernels::BsrSettings>(gpu).fusing;
  const Layers layers({.tokens = 100, .width = 192, .hidden = 448, .out = 136, .block = 64});
  std::vector<ag::Variable> in;
  for (const Tensor& value : layers.values)
    in.emplace_back(test::to(test::rounded(test::on_cpu(value), DType::kBFloat16), gpu));
  SparseFeedForwardArgs args{.x = in[0],
                             .up = {in[1], {}, in[2], layers.up},
                             .down = {in[3], {}, in[4], layers.down},
                             .activation = Activation::kGelu};
  const Tensor expected =
      test::rounded(test::on_cpu(sparse_feed_forward(args).value()), DType::kFloat64);
  double largest = 0;
  for (const double v : expected.to_vector<double>()) largest = std::max(largest, std::abs(v));
  args.training = false;
  for (const auto way : {kernels::BsrFusing::kAlways, kernels::BsrFusing::kNever}) {
    fusing = way;
    HEW_CHECK_CLOSE(test::rounded(test::on_cpu(sparse_feed_forward(args).value()), DType::kFloat64),
                    expected, 2 * test::unit_roundoff(DType::kBFloat16),
                    largest * test::unit_roundoff(DType::kBFloat16));
  }
  fusing = kernels::BsrFusing::kAuto;
}

}  // namespace hew::sparsity
