#include "autograd/cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/cross_entropy.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

// Every third target is not counted.
Tensor random_targets(std::int64_t tokens, std::int64_t vocabulary, const Stream& stream) {
  std::vector<std::int32_t> targets;
  for (std::int64_t m = 0; m < tokens; ++m) {
    const auto drawn =
        uniform_below(4, 0, static_cast<std::uint64_t>(m), static_cast<std::uint64_t>(vocabulary));
    targets.push_back(m % 3 == 2 ? kernels::kIgnoredTarget : static_cast<std::int32_t>(drawn));
  }
  return Tensor::from(targets, {tokens}, stream);
}

Tensor targets_of(const std::vector<std::int32_t>& values, const Stream& stream) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, stream);
}

struct Expected {
  std::vector<double> losses;
  double mean = 0;
};

template <class T>
Expected closed_form(const Tensor& logits, const Tensor& targets) {
  Expected out;
  const std::vector<T> values = logits.to_vector<T>();
  const std::vector<std::int32_t> wanted = targets.to_vector<std::int32_t>();
  double counted = 0;
  const std::int64_t vocabulary = logits.size(1);
  for (std::int64_t m = 0; m < logits.size(0); ++m) {
    const T* row = values.data() + m * vocabulary;
    double total = 0;
    for (std::int64_t v = 0; v < vocabulary; ++v) total += std::exp(double(row[v]));
    const std::int32_t target = wanted[static_cast<std::size_t>(m)];
    out.losses.push_back(target < 0 ? 0 : std::log(total) - double(row[target]));
    out.mean += out.losses.back();
    counted += target < 0 ? 0 : 1;
  }
  out.mean /= counted;
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("cross entropy matches its closed form, token by token and in the mean", T,
                   float, double) {
  const Stream& stream = test::test_stream();
  for (const std::int64_t vocabulary : {1, 2, 257, 1024}) {
    for (const std::int64_t tokens : {1, 7, 61}) {
      // A loss of up to a dozen nats, and a sum of V exponentials.
      const double tolerance =
          16 * std::sqrt(double(vocabulary)) * double(std::numeric_limits<T>::epsilon());
      const Tensor logits = test::random_tensor({tokens, vocabulary}, kDTypeOf<T>, stream, 1);
      const Tensor targets = random_targets(tokens, vocabulary, stream);
      Tensor losses = Tensor::empty({tokens}, kDTypeOf<T>, stream);
      Tensor lse = Tensor::empty({tokens}, kDTypeOf<T>, stream);
      kernels::token_losses({.logits = logits, .targets = targets, .losses = losses, .lse = lse},
                            stream);
      const Expected expected = closed_form<T>(logits, targets);
      HEW_CHECK_CLOSE(losses, Tensor::from(expected.losses, {tokens}, stream), tolerance,
                      tolerance);
      const ag::Variable mean = ag::cross_entropy(ag::Variable(logits), targets, 0.25);
      REQUIRE(mean.shape() == Shape{});
      HEW_CHECK_CLOSE(mean.value(),
                      Tensor::from(std::vector<double>{0.25 * expected.mean}, {}, stream),
                      tolerance, tolerance);
    }
  }
}

TEST_CASE("cross entropy gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t vocabulary : {2, 7, 31}) {
    for (const std::int64_t tokens : {1, 2, 11}) {
      const Tensor targets = random_targets(tokens, vocabulary, stream);
      const auto result = test::gradcheck(
          [&](const std::vector<ag::Variable>& in) {
            return ag::cross_entropy(in[0], targets, 0.5);
          },
          {test::random_tensor({tokens, vocabulary}, DType::kFloat64, stream, 2)});
      CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
    }
  }
}

TEST_CASE("cross entropy without counted targets is zero, and so is its gradient") {
  const Stream& stream = test::test_stream();
  const Tensor targets = targets_of({-1, -1}, stream);
  const auto out = test::value_and_gradients(
      [&](const std::vector<ag::Variable>& in) { return ag::cross_entropy(in[0], targets); },
      {test::random_tensor({2, 5}, DType::kFloat32, stream, 3)});
  CHECK(out[0].to_vector<float>() == std::vector<float>{0});
  CHECK(out[1].to_vector<float>() == std::vector<float>(10, 0.0F));
}

TEST_CASE("cross entropy is finite for large logits, and NaN where a logit is NaN") {
  const Stream& stream = test::test_stream();
  const Tensor targets = targets_of({0, 1}, stream);
  const Tensor large =
      Tensor::from(std::vector<float>{1e4F, -1e4F, 0, 1e4F, -1e4F, 0}, {2, 3}, stream);
  auto loss = [&](const std::vector<ag::Variable>& in) {
    return ag::cross_entropy(in[0], targets);
  };
  const auto out = test::value_and_gradients(loss, {large});
  CHECK(out[0].to_vector<float>()[0] == 1e4F);
  for (const float value : out[1].to_vector<float>()) CHECK(std::isfinite(value));
  for (const std::int64_t width : {3, 64}) {
    const Tensor good = test::random_tensor({2, width}, DType::kFloat32, stream, 1);
    for (std::int64_t at = 0; at < width; ++at) {
      const Tensor bad = test::with_element(good, at, NAN);
      REQUIRE(std::isnan(loss({ag::Variable(bad)}).value().to_vector<float>()[0]));
    }
  }
}

TEST_CASE("the gradient may take the place of the logits") {
  const Stream& stream = test::test_stream();
  const Tensor targets = random_targets(29, 331, stream);
  const Tensor logits = test::random_tensor({29, 331}, DType::kFloat32, stream, 1);
  Tensor losses = Tensor::empty({29}, DType::kFloat32, stream);
  Tensor lse = Tensor::empty({29}, DType::kFloat32, stream);
  kernels::token_losses({.logits = logits, .targets = targets, .losses = losses, .lse = lse},
                        stream);
  const Tensor one = Tensor::from(std::vector<float>{1}, {}, stream);
  auto backward = [&](const Tensor& from, Tensor& to) {
    kernels::cross_entropy_backward({.logits = from,
                                     .targets = targets,
                                     .lse = lse,
                                     .weight = one,
                                     .dmean = one,
                                     .dlogits = to},
                                    stream);
  };
  Tensor apart = Tensor::empty({29, 331}, DType::kFloat32, stream);
  backward(logits, apart);
  Tensor in_place = logits.clone();
  backward(in_place, in_place);
  CHECK(test::same_bytes(in_place, apart));
}

TEST_CASE_TEMPLATE("the fused kernel gives the losses and gradients of the two others", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  for (const std::int64_t vocabulary : {1, 2, 331}) {
    for (const std::int64_t tokens : {1, 29}) {
      const Shape per_token{tokens};
      const Tensor targets = random_targets(tokens, vocabulary, stream);
      const Tensor logits = test::random_tensor({tokens, vocabulary}, kDTypeOf<T>, stream, 1);
      Tensor losses = Tensor::empty(per_token, kDTypeOf<T>, stream);
      Tensor lse = Tensor::empty(per_token, kDTypeOf<T>, stream);
      Tensor mean = Tensor::empty({}, kDTypeOf<T>, stream);
      Tensor weight = Tensor::empty({}, kDTypeOf<T>, stream);
      Tensor same_weight = Tensor::empty({}, kDTypeOf<T>, stream);
      kernels::token_losses({.logits = logits, .targets = targets, .losses = losses, .lse = lse},
                            stream);
      kernels::mean_loss(
          {.losses = losses, .targets = targets, .scale = 0.5, .mean = mean, .weight = weight},
          stream);
      kernels::target_weight(targets, 0.5, same_weight, stream);
      CHECK(test::same_bytes(same_weight, weight));
      Tensor dlogits = Tensor::empty(logits.shape(), kDTypeOf<T>, stream);
      const Tensor one = Tensor::from(std::vector<T>{1}, {}, stream);
      kernels::cross_entropy_backward({.logits = logits,
                                       .targets = targets,
                                       .lse = lse,
                                       .weight = weight,
                                       .dmean = one,
                                       .dlogits = dlogits},
                                      stream);
      Tensor in_place = logits.clone();
      Tensor fused_losses = Tensor::empty(per_token, kDTypeOf<T>, stream);
      kernels::fused_cross_entropy(
          {.logits = in_place, .targets = targets, .weight = weight, .losses = fused_losses},
          stream);
      const double epsilon = double(std::numeric_limits<T>::epsilon());
      HEW_CHECK_CLOSE(fused_losses, losses, 4 * epsilon, 4 * epsilon);
      HEW_CHECK_CLOSE(in_place, dlogits, 16 * epsilon, epsilon);
    }
  }
}

TEST_CASE("the weight of targets, none of which count, is zero") {
  const Stream& stream = test::test_stream();
  Tensor weight = Tensor::empty({}, DType::kFloat64, stream);
  kernels::target_weight(targets_of({-1, -1}, stream), 3, weight, stream);
  CHECK(weight.to_vector<double>() == std::vector<double>{0});
  kernels::target_weight(targets_of({-1, 0, 7, -1}, stream), 3, weight, stream);
  CHECK(weight.to_vector<double>() == std::vector<double>{1.5});
}

TEST_CASE("cross entropy does not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor targets = random_targets(101, 257, stream);
  CHECK(test::independent_of_threads(
      [&](const std::vector<ag::Variable>& in) { return ag::cross_entropy(in[0], targets); },
      {test::random_tensor({101, 257}, DType::kFloat32, stream, 1)}));
}

TEST_CASE("cross entropy names the position of a target it does not have") {
  const Stream& stream = test::test_stream();
  const ag::Variable logits(test::random_tensor({3, 5}, DType::kFloat32, stream, 1));
  if (!test::on_gpu()) {  // which gives NaN, since it does not wait for the host
    CHECK_THROWS_WITH_AS(ag::cross_entropy(logits, targets_of({0, -1, 5}, stream)),
                         "[cross_entropy] target 5 at position 2 is outside a vocabulary of 5",
                         DataError);
    CHECK_THROWS_AS(ag::cross_entropy(logits, targets_of({0, -2, 4}, stream)), DataError);
  }
  CHECK_THROWS_AS(ag::cross_entropy(logits, targets_of({0, 1}, stream)), ShapeError);
  CHECK_THROWS_AS(ag::cross_entropy(logits, Tensor::zeros({3}, DType::kInt64, stream)), DtypeError);
}

}  // namespace hew
