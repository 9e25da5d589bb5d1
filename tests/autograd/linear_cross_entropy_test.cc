#include "autograd/linear_cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/cross_entropy.h"
#include "autograd/linear.h"
#include "core/error.h"
#include "core/rng.h"
#include "kernels/cross_entropy.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr double kScale = 0.25;

// Every fifth target is not counted.
Tensor random_targets(std::int64_t tokens, std::int64_t vocabulary, const Stream& stream) {
  std::vector<std::int32_t> targets;
  for (std::int64_t m = 0; m < tokens; ++m) {
    const auto drawn =
        uniform_below(4, 0, static_cast<std::uint64_t>(m), static_cast<std::uint64_t>(vocabulary));
    targets.push_back(m % 5 == 2 ? kernels::kIgnoredTarget : static_cast<std::int32_t>(drawn));
  }
  return Tensor::from(targets, {tokens}, stream);
}

test::Function fused(const Tensor& targets, std::int64_t chunk_tokens) {
  return [=](const std::vector<ag::Variable>& in) {
    return ag::linear_cross_entropy(in[0], in[1], targets,
                                    {.scale = kScale, .chunk_tokens = chunk_tokens});
  };
}

test::Function composed(const Tensor& targets) {
  return [=](const std::vector<ag::Variable>& in) {
    return ag::cross_entropy(ag::linear(in[0], in[1]), targets, kScale);
  };
}

}  // namespace

TEST_CASE("linear_cross_entropy is cross_entropy of linear, whatever the chunks") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t tokens : {1, 7, 61}) {
    for (const std::int64_t vocabulary : {1, 2, 131}) {
      const std::vector<Tensor> inputs{
          test::random_tensor({tokens, 17}, DType::kFloat64, stream, 1),
          test::random_tensor({vocabulary, 17}, DType::kFloat64, stream, 2)};
      const Tensor targets = random_targets(tokens, vocabulary, stream);
      const auto expected = test::value_and_gradients(composed(targets), inputs);
      for (const std::int64_t chunk : {0, 1, 5, 60, 61, 1000}) {
        const auto got = test::value_and_gradients(fused(targets, chunk), inputs);
        REQUIRE(got[0].shape() == Shape{});
        for (std::size_t i = 0; i < got.size(); ++i) {
          HEW_CHECK_CLOSE(got[i], expected[i], 1e-12, 1e-12);
        }
      }
    }
  }
}

TEST_CASE("linear_cross_entropy gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  const Tensor targets = random_targets(11, 7, stream);
  const auto result =
      test::gradcheck(fused(targets, 4), {test::random_tensor({11, 3}, DType::kFloat64, stream, 1),
                                          test::random_tensor({7, 3}, DType::kFloat64, stream, 2)});
  CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
}

TEST_CASE("linear_cross_entropy differentiates what is asked for, and the loss is the same") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({23, 5}, DType::kFloat64, stream, 1);
  const Tensor w = test::random_tensor({31, 5}, DType::kFloat64, stream, 2);
  const Tensor targets = random_targets(23, 31, stream);
  const auto expected = test::value_and_gradients(composed(targets), {x, w});
  for (const bool of_x : {false, true}) {
    for (const bool of_w : {false, true}) {
      ag::Variable leaf_x(x, of_x);
      ag::Variable leaf_w(w, of_w);
      const ag::Variable loss = fused(targets, 6)({leaf_x, leaf_w});
      HEW_CHECK_CLOSE(loss.value(), expected[0], 1e-12);
      CHECK(loss.requires_grad() == (of_x || of_w));
      if (!loss.requires_grad())
        continue;
      ag::backward(loss, test::random_tensor({}, DType::kFloat64, stream, 77));
      CHECK(leaf_x.grad().defined() == of_x);
      CHECK(leaf_w.grad().defined() == of_w);
      if (of_x)
        HEW_CHECK_CLOSE(leaf_x.grad(), expected[1], 1e-12, 1e-12);
      if (of_w)
        HEW_CHECK_CLOSE(leaf_w.grad(), expected[2], 1e-12, 1e-12);
    }
  }
}

TEST_CASE("linear_cross_entropy without counted targets, and without tokens, is zero") {
  const Stream& stream = test::test_stream();
  const Tensor w = test::random_tensor({3, 2}, DType::kFloat32, stream, 2);
  for (const std::int64_t tokens : {0, 4}) {
    const std::vector<std::int32_t> none(static_cast<std::size_t>(tokens), kernels::kIgnoredTarget);
    const auto out = test::value_and_gradients(
        fused(Tensor::from(none, {tokens}, stream), 3),
        {test::random_tensor({tokens, 2}, DType::kFloat32, stream, 1), w});
    CHECK(out[0].to_vector<float>() == std::vector<float>{0});
    for (const float g : out[1].to_vector<float>()) CHECK(g == 0);
    CHECK(out[2].to_vector<float>() == std::vector<float>(6, 0.0F));
  }
}

TEST_CASE("linear_cross_entropy chunks a large vocabulary by itself") {
  if (test::small_sizes())
    return;  // there is no small size at which it does
  const Stream& stream = test::test_stream();
  // 2 MiB a token in float64: 256 MiB hold fewer tokens than the least chunk of 256.
  constexpr std::int64_t kVocabulary = std::int64_t{1} << 18;
  const Tensor x = test::random_tensor({300, 1}, DType::kFloat64, stream, 1);
  const Tensor w = test::random_tensor({kVocabulary, 1}, DType::kFloat64, stream, 2);
  const Tensor targets = random_targets(300, kVocabulary, stream);
  const ag::Variable by_itself = fused(targets, 0)({ag::Variable(x), ag::Variable(w)});
  const ag::Variable by_hand = fused(targets, 100)({ag::Variable(x), ag::Variable(w)});
  HEW_CHECK_CLOSE(by_itself.value(), by_hand.value(), 1e-12);
}

TEST_CASE("linear_cross_entropy does not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  CHECK(test::independent_of_threads(fused(random_targets(101, 257, stream), 40),
                                     {test::random_tensor({101, 13}, DType::kFloat32, stream, 1),
                                      test::random_tensor({257, 13}, DType::kFloat32, stream, 2)}));
}

TEST_CASE("linear_cross_entropy refuses what does not fit, and names a target's position") {
  const Stream& stream = test::test_stream();
  const ag::Variable x(test::random_tensor({3, 2}, DType::kFloat32, stream, 1));
  const ag::Variable w(test::random_tensor({5, 2}, DType::kFloat32, stream, 2));
  auto targets_of = [&](const std::vector<std::int32_t>& values) {
    return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, stream);
  };
  if (!test::on_gpu()) {  // which gives NaN, since it does not wait for the host
    CHECK_THROWS_WITH_AS(
        ag::linear_cross_entropy(x, w, targets_of({0, -1, 5}), {.chunk_tokens = 1}),
        "[cross_entropy] target 5 at position 2 is outside a vocabulary of 5", DataError);
    CHECK_THROWS_AS(ag::linear_cross_entropy(x, x, targets_of({0, -2, 4})), DataError);
  }
  CHECK_THROWS_AS(ag::linear_cross_entropy(x, w, targets_of({0, 1})), ShapeError);
  CHECK_THROWS_AS(ag::linear_cross_entropy(x, w, Tensor::zeros({3}, DType::kInt64, stream)),
                  DtypeError);
  const ag::Variable narrow(test::random_tensor({5, 1}, DType::kFloat32, stream, 2));
  CHECK_THROWS_AS(ag::linear_cross_entropy(x, narrow, targets_of({0, 1, 2})), ShapeError);
  CHECK_THROWS_AS(ag::linear_cross_entropy(x, w, targets_of({0, 1, 2}), {.chunk_tokens = -1}),
                  ConfigError);
}

}  // namespace hew
