#include "autograd/soft_cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/cross_entropy.h"
#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

// Rows that are positive and, if `normalised`, add up to 1.
Tensor distributions(std::int64_t rows, std::int64_t classes, bool normalised = true) {
  std::vector<double> values =
      test::random_tensor({rows, classes}, DType::kFloat64, make_cpu_stream(), 7)
          .to_vector<double>();
  std::vector<float> out(values.size());
  for (std::size_t m = 0; m < static_cast<std::size_t>(rows); ++m) {
    const std::size_t begin = m * static_cast<std::size_t>(classes);
    double sum = 0;
    for (std::size_t v = begin; v < begin + static_cast<std::size_t>(classes); ++v)
      sum += values[v] = values[v] * values[v];
    for (std::size_t v = begin; v < begin + static_cast<std::size_t>(classes); ++v)
      out[v] = static_cast<float>(normalised ? values[v] / sum : values[v]);
  }
  return Tensor::from(out, {rows, classes}, test::test_stream());
}

test::Function loss(const Tensor& targets, const ag::SoftCrossEntropyOptions& options) {
  return [=](const std::vector<ag::Variable>& in) {
    return ag::soft_cross_entropy(in[0], targets, options);
  };
}

double value_of(const ag::Variable& scalar) {
  return test::rounded(test::on_cpu(scalar.value()).reshape({1}), DType::kFloat64)
      .to_vector<double>()
      .front();
}

}  // namespace

TEST_CASE("soft cross entropy is the formula, with smoothing as published") {
  const Stream& stream = test::test_stream();
  const Tensor logits = Tensor::from(std::vector<double>{1, 2, 4}, {1, 3}, stream);
  const Tensor targets = Tensor::from(std::vector<float>{0.25F, 0.75F, 0}, {1, 3}, stream);
  const double lse = std::log(std::exp(1) + std::exp(2) + std::exp(4));
  CHECK(value_of(ag::soft_cross_entropy(ag::Variable(logits), targets)) ==
        doctest::Approx(lse - 0.25 - 1.5).epsilon(1e-14));
  const double smoothed = lse - (0.9 * 0.25 + 0.1 / 3) - 2 * (0.9 * 0.75 + 0.1 / 3) - 4 * 0.1 / 3;
  CHECK(value_of(ag::soft_cross_entropy(ag::Variable(logits), targets,
                                        {.smoothing = 0.1, .scale = 3})) ==
        doctest::Approx(3 * smoothed).epsilon(1e-14));
}

TEST_CASE("with one-hot targets it is the cross entropy, gradient and all") {
  const Stream& stream = test::test_stream();
  constexpr std::int64_t kRows = 7;
  constexpr std::int64_t kClasses = 11;
  std::vector<std::int32_t> ids(kRows);
  std::vector<float> hot(kRows * kClasses, 0.0F);
  for (std::size_t m = 0; m < ids.size(); ++m) {
    ids[m] = static_cast<std::int32_t>(5 * m % kClasses);
    hot[m * kClasses + static_cast<std::size_t>(ids[m])] = 1;
  }
  const Tensor targets = Tensor::from(hot, {kRows, kClasses}, stream);
  const Tensor labels = Tensor::from(ids, {kRows}, stream);
  const Tensor logits = test::random_tensor({kRows, kClasses}, DType::kFloat64, stream, 3);
  const auto soft = test::value_and_gradients(loss(targets, {.scale = 0.5}), {logits});
  const auto hard = test::value_and_gradients(
      [&](const std::vector<ag::Variable>& in) { return ag::cross_entropy(in[0], labels, 0.5); },
      {logits});
  for (std::size_t i = 0; i < soft.size(); ++i) HEW_CHECK_CLOSE(soft[i], hard[i], 1e-12, 1e-14);
}

TEST_CASE("gradients of soft cross entropy agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t classes : {1, 2, 10, 1031}) {
    for (const double smoothing : {0.0, 0.11, 1.0}) {
      CAPTURE(classes);
      CAPTURE(smoothing);
      const std::int64_t rows = classes > 100 ? 1 : 5;
      const Tensor logits = test::random_tensor({rows, classes}, DType::kFloat64, stream, 1);
      const auto result =
          test::gradcheck(loss(distributions(rows, classes, /*normalised=*/classes != 10),
                               {.smoothing = smoothing, .scale = 0.25}),
                          {logits});
      CHECK_MESSAGE((classes == 1 || result.max_relative_error <= 1e-6), result.worst);
    }
  }
}

TEST_CASE("soft cross entropy bears large logits, no rows, and any number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor large = Tensor::from(std::vector<float>{1000, 998, -1000}, {1, 3}, stream);
  const Tensor first = Tensor::from(std::vector<float>{1, 0, 0}, {1, 3}, stream);
  CHECK(value_of(ag::soft_cross_entropy(ag::Variable(large), first)) ==
        doctest::Approx(std::log1p(std::exp(-2.0))).epsilon(1e-3));  // lse is 1000, in float32
  const Tensor none = Tensor::empty({0, 3}, DType::kFloat32, stream);
  CHECK(value_of(ag::soft_cross_entropy(ag::Variable(none), none)) == 0);
  CHECK(test::independent_of_threads(loss(distributions(61, 211), {.smoothing = 0.1}),
                                     {test::random_tensor({61, 211}, DType::kFloat32, stream, 1)}));
}

TEST_CASE("soft cross entropy refuses what does not fit") {
  const Stream& stream = test::test_stream();
  const ag::Variable logits(Tensor::zeros({2, 3}, DType::kFloat32, stream));
  const Tensor targets = Tensor::zeros({2, 3}, DType::kFloat32, stream);
  CHECK_THROWS_AS(ag::soft_cross_entropy(logits, targets.reshape({3, 2})), ShapeError);
  CHECK_THROWS_AS(ag::soft_cross_entropy(logits, Tensor::zeros({2, 3}, DType::kFloat64, stream)),
                  DtypeError);
  CHECK_THROWS_AS(ag::soft_cross_entropy(logits, targets, {.smoothing = 1.5}), ConfigError);
}

}  // namespace hew
