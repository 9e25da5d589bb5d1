#include "autograd/rearrange.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

Tensor counting(const Shape& shape, const Stream& stream) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  std::iota(values.begin(), values.end(), 0.0);
  return Tensor::from(values, shape, stream);
}

}  // namespace

TEST_CASE("permute moves every element to its place, for all orders of four dimensions") {
  const Stream& stream = test::test_stream();
  const Shape shape{2, 3, 1, 5};
  const Tensor x = counting(shape, stream);
  std::vector<int> axes{0, 1, 2, 3};
  do {
    const Tensor y = ag::permute(ag::Variable(x), axes).value();
    const std::vector<double> moved = y.to_vector<double>();
    std::array<std::int64_t, 4> index{};
    for (std::int64_t i = 0; i < y.numel(); ++i) {
      std::int64_t rest = i;
      for (std::size_t d = 4; d-- > 0;) {
        index[static_cast<std::size_t>(axes[d])] = rest % y.size(static_cast<int>(d));
        rest /= y.size(static_cast<int>(d));
      }
      // The elements of x count up.
      const std::int64_t at = ((index[0] * 3 + index[1]) * 1 + index[2]) * 5 + index[3];
      REQUIRE(moved[static_cast<std::size_t>(i)] == double(at));
    }
    const auto result = test::gradcheck(
        [&](const std::vector<ag::Variable>& in) { return ag::permute(in[0], axes); }, {x});
    REQUIRE_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  } while (std::next_permutation(axes.begin(), axes.end()));
}

TEST_CASE("reshape shares memory and columns cut a matrix, with their gradients") {
  const Stream& stream = test::test_stream();
  const Tensor x = counting({3, 7}, stream);
  const ag::Variable flat = ag::reshape(ag::Variable(x), {21});
  CHECK(flat.value().data<double>() == x.data<double>());
  CHECK(ag::columns(ag::Variable(x), 5, 2).value().to_vector<double>() ==
        std::vector<double>{5, 6, 12, 13, 19, 20});
  const auto reshaped = test::gradcheck(
      [](const std::vector<ag::Variable>& in) {
        return ag::reshape(in[0], {7, 3});
      },
      {x});
  CHECK_MESSAGE(reshaped.max_relative_error <= 1e-6, reshaped.worst);
  for (const std::int64_t begin : {0, 3, 6}) {
    const auto cut = test::gradcheck(
        [&](const std::vector<ag::Variable>& in) { return ag::columns(in[0], begin, 1); }, {x});
    CHECK_MESSAGE(cut.max_relative_error <= 1e-6, cut.worst);
  }
}

TEST_CASE("a leaf's gradient does not share memory with the reshape that passed it on") {
  const Stream& stream = test::test_stream();
  ag::Variable x(counting({4}, stream), /*requires_grad=*/true);
  const Tensor seed = counting({2, 2}, stream);
  ag::backward(ag::reshape(x, {2, 2}), seed);
  CHECK(x.grad().to_vector<double>() == std::vector<double>{0, 1, 2, 3});
  CHECK(x.grad().data<double>() != seed.data<double>());
}

TEST_CASE("rearrangements do not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({151, 131}, DType::kFloat32, stream, 1);
  CHECK(test::independent_of_threads(
      [](const std::vector<ag::Variable>& in) {
        return ag::permute(in[0], {1, 0});
      },
      {x}));
  CHECK(test::independent_of_threads(
      [](const std::vector<ag::Variable>& in) { return ag::columns(in[0], 3, 101); }, {x}));
}

TEST_CASE("rearrangements refuse what does not fit") {
  const Stream& stream = test::test_stream();
  const ag::Variable x(counting({3, 7}, stream));
  CHECK_THROWS_AS(ag::reshape(x, {20}), ShapeError);
  CHECK_THROWS_AS(ag::permute(x, {0}), ShapeError);
  CHECK_THROWS_AS(ag::permute(x, {0, 0}), ShapeError);
  CHECK_THROWS_AS(ag::permute(x, {0, 2}), ShapeError);
  CHECK_THROWS_WITH_AS(ag::columns(x, 5, 3), "[columns] columns 5 to 8 of shape [3, 7]",
                       ShapeError);
  CHECK_THROWS_AS(ag::columns(x, -1, 3), ShapeError);
}

}  // namespace hew
