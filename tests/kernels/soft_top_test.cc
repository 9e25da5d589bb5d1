#include "kernels/soft_top.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using Values = std::vector<double>;

struct Soft {
  Values mask;
  double slope;
};

Tensor tensor_of(const Values& values, const Shape& shape) {
  return Tensor::from(values, shape, test::test_stream());
}

Soft soft_top(const Values& values, std::int64_t keep, double sharpness) {
  const Stream& stream = test::test_stream();
  const Shape shape{std::ssize(values)};
  const Tensor input = tensor_of(values, shape);
  Tensor mask = test::poisoned(shape, DType::kFloat64, stream);
  Tensor slope = test::poisoned({1}, DType::kFloat64, stream);
  const std::vector<kernels::SoftTop> one{
      {.values = input, .keep = keep, .sharpness = sharpness, .mask = mask, .slope = slope}};
  kernels::soft_top(one, stream);
  return {mask.to_vector<double>(), slope.to_vector<double>().front()};
}

double sum_of(const Values& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

double deviation_of(const Values& v) {
  const double mean = sum_of(v) / static_cast<double>(v.size());
  double squares = 0;
  for (const double x : v) squares += (x - mean) * (x - mean);
  return std::sqrt(squares / static_cast<double>(v.size()));
}

// For a slope that is given, by halving alone.
Values by_bisection(const Values& v, double keep, double slope) {
  double low = -1e9;
  double high = 1e9;
  Values mask(v.size());
  while (low + (high - low) / 2 > low && low + (high - low) / 2 < high) {
    const double mu = low + (high - low) / 2;
    for (std::size_t j = 0; j < v.size(); ++j) mask[j] = 1 / (1 + std::exp(-slope * v[j] - mu));
    (sum_of(mask) < keep ? low : high) = mu;
  }
  return mask;
}

Values random_values(std::int64_t n, std::uint64_t seed) {
  Values v = test::random_tensor({n}, DType::kFloat64, make_cpu_stream(), seed).to_vector<double>();
  for (double& x : v) x = 1 + 0.2 * x;
  return v;
}

}  // namespace

TEST_CASE("the soft top-k is the logistic function of slope times value, and sums to k") {
  for (const std::int64_t n : {2, 3, 97, 1024, 20011}) {
    const Values v = random_values(n, 4);
    for (const double sharpness : {0.1, 1.0, 20.0, 3000.0}) {
      for (const std::int64_t keep : {std::int64_t{1}, (n + 2) / 3, n - 1}) {
        CAPTURE(n);
        CAPTURE(sharpness);
        CAPTURE(keep);
        const Soft soft = soft_top(v, keep, sharpness);
        CHECK(soft.slope == doctest::Approx(sharpness / deviation_of(v)).epsilon(1e-12));
        const auto wanted = static_cast<double>(keep);
        CHECK(std::abs(sum_of(soft.mask) - wanted) <= 1e-9 * wanted);
        const Values expected = by_bisection(v, wanted, soft.slope);
        // μ and slope·v are rounded where they are of the order of the sharpness.
        const double tolerance = 1e-13 * std::max(100.0, 20 * sharpness);
        HEW_CHECK_CLOSE(tensor_of(soft.mask, {n}), tensor_of(expected, {n}), tolerance, tolerance);
      }
    }
  }
}

TEST_CASE("the soft top-k of equal values is even, that of all blocks is 1, and sharp is hard") {
  for (const double m : soft_top(Values(7, 2.5), 3, 20).mask)
    CHECK(m == doctest::Approx(3.0 / 7.0).epsilon(1e-15));
  CHECK(soft_top(Values(7, 2.5), 3, 20).slope == 0);
  CHECK(soft_top(Values{1}, 1, 5).mask == Values{1});
  CHECK(soft_top(random_values(50, 1), 50, 5).mask == Values(50, 1.0));
  const Values hard = soft_top({4, 1, 3, 2}, 2, 1e6).mask;
  const Values expected{1, 0, 1, 0};
  for (std::size_t j = 0; j < hard.size(); ++j) CHECK(std::abs(hard[j] - expected[j]) <= 1e-15);
}

TEST_CASE("several matrices at once are each as if alone, to the last bit") {
  const Stream& stream = test::test_stream();
  const std::vector<Values> values{random_values(5, 1), random_values(3000, 2),
                                   random_values(1, 3)};
  const std::vector<std::int64_t> keeps{2, 700, 1};
  std::vector<kernels::SoftTop> all;
  std::vector<Tensor> held;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Shape shape{std::ssize(values[i])};
    held.push_back(tensor_of(values[i], shape));
    Tensor mask = test::poisoned(shape, DType::kFloat64, stream);
    Tensor slope = test::poisoned({1}, DType::kFloat64, stream);
    all.push_back(
        {.values = held.back(), .keep = keeps[i], .sharpness = 7, .mask = mask, .slope = slope});
    held.push_back(mask);
    held.push_back(slope);
  }
  kernels::soft_top(all, stream);
  for (std::size_t i = 0; i < values.size(); ++i)
    CHECK(held[3 * i + 1].to_vector<double>() == soft_top(values[i], keeps[i], 7).mask);
}

TEST_CASE("the soft top-k's gradient agrees with central differences, the slope held fixed") {
  // 3 × 4 blocks of 8, the last row and column ragged.
  constexpr std::int64_t kRows = 20;
  constexpr std::int64_t kCols = 28;
  constexpr std::int64_t kBlock = 8;
  constexpr double kStep = 1e-6;
  const Stream& stream = test::test_stream();
  const Shape grid{3, 4};
  const Values v = random_values(12, 8);
  const Values d = random_values(12, 9);
  for (const std::int64_t keep : {1, 4, 11, 12}) {
    CAPTURE(keep);
    const Soft soft = soft_top(v, keep, 3);
    Tensor factor = test::poisoned(grid, DType::kFloat64, stream);
    kernels::soft_top_gradient({.values = tensor_of(v, grid),
                                .mask = tensor_of(soft.mask, grid),
                                .slope = tensor_of({soft.slope}, {1}),
                                .dmask = tensor_of(d, grid),
                                .rows = kRows,
                                .cols = kCols,
                                .block = kBlock,
                                .factor = factor},
                               stream);
    const Values got = factor.to_vector<double>();
    for (std::size_t j = 0; j < v.size(); ++j) {
      const auto loss_at = [&](double moved) {
        Values at = v;
        at[j] += moved;
        const Values m = by_bisection(at, static_cast<double>(keep), soft.slope);
        double loss = 0;
        for (std::size_t i = 0; i < m.size(); ++i) loss += m[i] * d[i];
        return loss;
      };
      const double dv = keep == 12 ? 0 : (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
      const double elements = (j < 8 ? 8.0 : 4.0) * (j % 4 < 3 ? 8.0 : 4.0);
      CHECK(std::abs(got[j] * elements * v[j] - dv) <= 1e-8);
    }
  }
}

TEST_CASE("the soft top-k refuses what does not fit, and on the CPU what is not finite") {
  const Stream cpu = make_cpu_stream();
  Tensor v = Tensor::zeros({3}, DType::kFloat64, cpu);
  Tensor mask = Tensor::zeros({3}, DType::kFloat64, cpu);
  Tensor slope = Tensor::zeros({1}, DType::kFloat64, cpu);
  auto run = [&](std::int64_t keep, double sharpness, Tensor& to) {
    const std::vector<kernels::SoftTop> one{
        {.values = v, .keep = keep, .sharpness = sharpness, .mask = to, .slope = slope}};
    kernels::soft_top(one, cpu);
  };
  CHECK_NOTHROW(run(1, 1, mask));
  CHECK_THROWS_AS(run(0, 1, mask), ShapeError);
  CHECK_THROWS_AS(run(4, 1, mask), ShapeError);
  CHECK_THROWS_AS(run(1, 0, mask), ShapeError);
  CHECK_THROWS_AS(run(1, 1, slope), ShapeError);
  Tensor narrow = Tensor::zeros({3}, DType::kFloat32, cpu);
  CHECK_THROWS_AS(run(1, 1, narrow), DtypeError);
  v.data<double>()[1] = NAN;
  CHECK_THROWS_AS(run(1, 1, mask), Error);
}

}  // namespace hew
