#include "autograd/embedding.h"

#include <doctest/doctest.h>

#include "autograd/gradcheck.h"
#include "core/error.h"
#include "core/rng.h"
#include "kernels/embedding.h"
#include "tests/support/compare.h"
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
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t width : {1, 7, 131}) {
    const Tensor ids = random_ids({3, 11}, 5, cpu);
    const Tensor table = test::random_tensor({5, width}, kDTypeOf<T>, cpu, 1);
    const Tensor dy = test::random_tensor({3, 11, width}, kDTypeOf<T>, cpu, 2);
    ag::Variable leaf(table, /*requires_grad=*/true);
    const ag::Variable y = ag::embedding(ids, leaf);
    REQUIRE(y.shape() == Shape{3, 11, width});
    ag::backward(y, dy);
    std::vector<T> sums(static_cast<std::size_t>(5 * width), T(0));
    for (std::int64_t i = 0; i < 33; ++i) {
      const std::int64_t id = ids.data<std::int32_t>()[i];
      for (std::int64_t c = 0; c < width; ++c) {
        REQUIRE(y.value().data<T>()[i * width + c] == table.data<T>()[id * width + c]);
        sums[static_cast<std::size_t>(id * width + c)] += dy.data<T>()[i * width + c];
      }
    }
    CHECK(leaf.grad().to_vector<T>() == sums);
  }
}

TEST_CASE("embedding gradients agree with central differences") {
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t vocabulary : {1, 7}) {
    const Tensor ids = random_ids({13}, static_cast<std::uint64_t>(vocabulary), cpu);
    const auto result = ag::gradcheck(
        [&](const std::vector<ag::Variable>& in) { return ag::embedding(ids, in[0]); },
        {test::random_tensor({vocabulary, 3}, DType::kFloat64, cpu, 1)});
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  }
}

TEST_CASE("the gradient of a table may be added to what is there") {
  const Stream cpu = make_cpu_stream();
  const Tensor ids = Tensor::from(std::vector<std::int32_t>{3, 1, 3}, {3}, cpu);
  const Tensor dy = Tensor::from(std::vector<double>{1, 2, 4, 8, 16, 32}, {3, 2}, cpu);
  Tensor dtable = Tensor::from(std::vector<double>{.5, .5, .5, .5, .5, .5, .5, .5}, {4, 2}, cpu);
  kernels::embedding_backward(ids, dy, dtable, /*accumulate=*/true, cpu);
  CHECK(dtable.to_vector<double>() == std::vector<double>{.5, .5, 4.5, 8.5, .5, .5, 17.5, 34.5});
  kernels::embedding_backward(ids, dy, dtable, /*accumulate=*/false, cpu);
  CHECK(dtable.to_vector<double>() == std::vector<double>{0, 0, 4, 8, 0, 0, 17, 34});
}

TEST_CASE("embedding does not depend on the number of threads") {
  const Stream cpu = make_cpu_stream();
  const Tensor ids = random_ids({401}, 17, cpu);
  CHECK(test::independent_of_threads(
      [&](const std::vector<ag::Variable>& in) { return ag::embedding(ids, in[0]); },
      {test::random_tensor({17, 197}, DType::kFloat32, cpu, 1)}));
}

TEST_CASE("embedding names the position of an id it does not have") {
  const Stream cpu = make_cpu_stream();
  const ag::Variable table(test::random_tensor({7, 3}, DType::kFloat32, cpu, 1));
  auto ids = [&](std::vector<std::int32_t> values) {
    return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, cpu);
  };
  CHECK_THROWS_WITH_AS(ag::embedding(ids({0, 6, 7}), table),
                       "[embedding] id 7 at position 2 is outside a vocabulary of 7", DataError);
  CHECK_THROWS_AS(ag::embedding(ids({-1}), table), DataError);
  CHECK_THROWS_AS(ag::embedding(Tensor::zeros({2}, DType::kInt64, cpu), table), DtypeError);
  CHECK_THROWS_AS(ag::embedding(ids({0}), ag::Variable(Tensor::zeros({7}, DType::kFloat32, cpu))),
                  ShapeError);
}

}  // namespace hew
