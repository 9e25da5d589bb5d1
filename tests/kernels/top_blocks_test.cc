#include "kernels/top_blocks.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using Mask = std::vector<std::uint8_t>;

// By a stable sort.
Mask reference(const std::vector<double>& scores, std::int64_t keep) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  Mask mask(scores.size(), 0);
  for (std::int64_t i = 0; i < keep; ++i) mask[order[static_cast<std::size_t>(i)]] = 1;
  return mask;
}

Mask top(const std::vector<double>& scores, std::int64_t keep) {
  const Stream& stream = test::test_stream();
  const Shape shape{static_cast<std::int64_t>(scores.size())};
  Tensor mask = test::poisoned(shape, DType::kUInt8, stream);
  kernels::top_blocks(Tensor::from(scores, shape, stream), keep, mask, stream);
  return mask.to_vector<std::uint8_t>();
}

}  // namespace

TEST_CASE("top_blocks keeps the largest scores, of equal ones the first") {
  for (const std::int64_t n : {1, 2, 7, 256, 1009, 70001}) {
    CAPTURE(n);
    const Tensor drawn = test::random_tensor({n}, DType::kFloat64, make_cpu_stream(), 5);
    std::vector<double> scores = drawn.to_vector<double>();
    std::vector<double> ties;  // few values, both signs
    for (const double score : scores) ties.push_back(std::round(score));
    for (const std::int64_t keep : {std::int64_t{0}, std::int64_t{1}, n / 3, n - 1, n}) {
      CAPTURE(keep);
      CHECK(top(scores, keep) == reference(scores, keep));
      CHECK(top(ties, keep) == reference(ties, keep));
    }
  }
  CHECK(top({}, 0).empty());
}

TEST_CASE("top_blocks orders zeros of both signs, infinities and the smallest numbers") {
  CHECK(top({-0.0, 0.0, -0.0}, 1) == Mask{1, 0, 0});
  CHECK(top({0.0, -0.0, 0.0}, 2) == Mask{1, 1, 0});
  const std::vector<double> scores{-INFINITY, -1e300, -5e-324, 0, 5e-324, 1, INFINITY, -2};
  for (std::int64_t keep = 0; keep <= 8; ++keep)
    CHECK(top(scores, keep) == reference(scores, keep));
}

TEST_CASE("top_blocks refuses NaN on the CPU, and what does not fit") {
  const Stream cpu = make_cpu_stream();
  Tensor scores = Tensor::zeros({3}, DType::kFloat64, cpu);
  Tensor mask = Tensor::zeros({3}, DType::kUInt8, cpu);
  CHECK_THROWS_AS(kernels::top_blocks(scores, 4, mask, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::top_blocks(scores, -1, mask, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::top_blocks(scores.reshape({3, 1}), 1, mask, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::top_blocks(scores, 1, scores, cpu), DtypeError);
  CHECK_THROWS_AS(kernels::top_blocks(Tensor::zeros({3}, DType::kFloat32, cpu), 1, mask, cpu),
                  DtypeError);
  scores.data<double>()[1] = NAN;
  CHECK_THROWS_AS(kernels::top_blocks(scores, 1, mask, cpu), Error);
}

TEST_CASE("threshold_blocks keeps what reaches the threshold") {
  const Stream& stream = test::test_stream();
  const Tensor scores =
      Tensor::from(std::vector<double>{1, 2, -3, NAN, 1.5, INFINITY}, {6}, stream);
  Tensor mask = test::poisoned({6}, DType::kUInt8, stream);
  kernels::threshold_blocks(scores, 1.5, mask, stream);
  CHECK(mask.to_vector<std::uint8_t>() == Mask{0, 1, 0, 0, 1, 1});
}

}  // namespace hew
