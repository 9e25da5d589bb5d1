#include "autograd/embedding.h"

#include <doctest/doctest.h>

#include <limits>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/embedding.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

Tensor random_ids(const Shape& shape, std::uint64_t vocabulary, const Stream& stream) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    ids.push_back(
        static_cast<std::int32_t>(uniform_below(9, 0, static_cast<std::uint64_t>(i), vocabulary)));
  }
  return Tensor::from(ids, shape, stream);
}

}  // namespace

TEST_CASE_TEMPLATE("embedding gathers rows and its gradient adds them up in order", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  for (const std::int64_t width : {1, 7, 131}) {
    const Tensor ids = random_ids({3, 11}, 5, stream);
    const Tensor table = test::random_tensor({5, width}, kDTypeOf<T>, stream, 1);
    const Tensor dy = test::random_tensor({3, 11, width}, kDTypeOf<T>, stream, 2);
    ag::Variable leaf(table, /*requires_grad=*/true);
    const ag::Variable y = ag::embedding(ids, leaf);
    REQUIRE(y.shape() == Shape{3, 11, width});
    ag::backward(y, dy);
    const std::vector<T> values = y.value().to_vector<T>();
    const std::vector<T> rows = table.to_vector<T>();
    const std::vector<T> gradients = dy.to_vector<T>();
    std::vector<T> sums(static_cast<std::size_t>(5 * width), T(0));
    std::size_t at = 0;
    for (const std::int32_t id : ids.to_vector<std::int32_t>()) {
      const auto row = static_cast<std::size_t>(id * width);
      for (std::size_t c = 0; c < static_cast<std::size_t>(width); ++c, ++at) {
        REQUIRE(values[at] == rows[row + c]);
        sums[row + c] += gradients[at];
      }
    }
    // A GPU adds up tiles of positions: another order, of 33 values of a few units at most.
    const double order = test::on_gpu() ? 33 * 4 * double(std::numeric_limits<T>::epsilon()) : 0;
    HEW_CHECK_CLOSE(leaf.grad(), Tensor::from(sums, table.shape(), stream), 0, order);
  }
}

TEST_CASE("embedding gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t vocabulary : {1, 7}) {
    const Tensor ids = random_ids({13}, static_cast<std::uint64_t>(vocabulary), stream);
    const auto result = test::gradcheck(
        [&](const std::vector<ag::Variable>& in) { return ag::embedding(ids, in[0]); },
        {test::random_tensor({vocabulary, 3}, DType::kFloat64, stream, 1)});
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  }
}

TEST_CASE("the gradient of a table may be added to what is there") {
  const Stream& stream = test::test_stream();
  const Tensor ids = Tensor::from(std::vector<std::int32_t>{3, 1, 3}, {3}, stream);
  const Tensor dy = Tensor::from(std::vector<double>{1, 2, 4, 8, 16, 32}, {3, 2}, stream);
  Tensor dtable = Tensor::from(std::vector<double>{.5, .5, .5, .5, .5, .5, .5, .5}, {4, 2}, stream);
  const kernels::IdGroups groups = kernels::group_ids(ids, 4, stream);
  kernels::embedding_backward(groups, dy, dtable, /*accumulate=*/true, stream);
  CHECK(dtable.to_vector<double>() == std::vector<double>{.5, .5, 4.5, 8.5, .5, .5, 17.5, 34.5});
  kernels::embedding_backward(groups, dy, dtable, /*accumulate=*/false, stream);
  CHECK(dtable.to_vector<double>() == std::vector<double>{0, 0, 4, 8, 0, 0, 17, 34});
  CHECK_THROWS_AS(kernels::embedding_backward(kernels::group_ids(ids, 5, stream), dy, dtable,
                                              /*accumulate=*/false, stream),
                  ShapeError);
  CHECK_THROWS_AS(kernels::group_ids(ids, 0, stream), ShapeError);
}

TEST_CASE("embedding does not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor ids = random_ids({401}, 17, stream);
  CHECK(test::independent_of_threads(
      [&](const std::vector<ag::Variable>& in) { return ag::embedding(ids, in[0]); },
      {test::random_tensor({17, 197}, DType::kFloat32, stream, 1)}));
}

TEST_CASE("embedding names the position of an id it does not have") {
  const Stream& stream = test::test_stream();
  const ag::Variable table(test::random_tensor({7, 3}, DType::kFloat32, stream, 1));
  auto ids = [&](std::vector<std::int32_t> values) {
    return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, stream);
  };
  if (!test::on_gpu()) {  // which gives NaN, since it does not wait for the host
    CHECK_THROWS_WITH_AS(ag::embedding(ids({0, 6, 7}), table),
                         "[embedding] id 7 at position 2 is outside a vocabulary of 7", DataError);
    CHECK_THROWS_AS(ag::embedding(ids({-1}), table), DataError);
  }
  CHECK_THROWS_AS(ag::embedding(Tensor::zeros({2}, DType::kInt64, stream), table), DtypeError);
  CHECK_THROWS_AS(
      ag::embedding(ids({0}), ag::Variable(Tensor::zeros({7}, DType::kFloat32, stream))),
      ShapeError);
}

}  // namespace hew
