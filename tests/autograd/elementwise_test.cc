#include "autograd/elementwise.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

ag::Variable add(const std::vector<ag::Variable>& in) {
  return ag::add(in[0], in[1]);
}
ag::Variable add_broadcast(const std::vector<ag::Variable>& in) {
  return ag::add_broadcast(in[0], in[1]);
}
ag::Variable multiply(const std::vector<ag::Variable>& in) {
  return ag::multiply(in[0], in[1]);
}
ag::Variable scale(const std::vector<ag::Variable>& in) {
  return ag::scale(in[0], -0.375);
}

}  // namespace

TEST_CASE("elementwise gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  auto check = [](const test::Function& f, const std::vector<Tensor>& inputs) {
    const auto result = test::gradcheck(f, inputs);
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  };
  for (const std::int64_t n : {1, 9, 17}) {
    const Tensor a = test::random_tensor({3, 2, n}, DType::kFloat64, stream, 1);
    const Tensor b = test::random_tensor({3, 2, n}, DType::kFloat64, stream, 2);
    check(add, {a, b});
    check(multiply, {a, b});
    check(scale, {a});
    check(add_broadcast, {a, test::random_tensor({n}, DType::kFloat64, stream, 3)});
    check(add_broadcast, {a, test::random_tensor({2, n}, DType::kFloat64, stream, 3)});
  }
}

TEST_CASE("elementwise ops use one variable twice") {
  const Stream& stream = test::test_stream();
  const auto out = test::value_and_gradients(
      [](const std::vector<ag::Variable>& in) { return ag::multiply(in[0], in[0]); },
      {Tensor::from(std::vector<double>{3}, {1}, stream)});
  CHECK(out[0].to_vector<double>()[0] == 9);
  const double dy = test::random_tensor({1}, DType::kFloat64, stream, 77).to_vector<double>()[0];
  CHECK(out[1].to_vector<double>()[0] == 6 * dy);
}

TEST_CASE("elementwise ops do not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor a = test::random_tensor({127, 1, 151}, DType::kFloat32, stream, 1);
  const Tensor b = test::random_tensor({127, 1, 151}, DType::kFloat32, stream, 2);
  CHECK(test::independent_of_threads(add, {a, b}));
  CHECK(test::independent_of_threads(multiply, {a, b}));
  CHECK(test::independent_of_threads(scale, {a}));
  CHECK(test::independent_of_threads(add_broadcast,
                                     {a, test::random_tensor({151}, DType::kFloat32, stream, 3)}));
}

TEST_CASE("elementwise ops refuse what does not fit") {
  const Stream& stream = test::test_stream();
  const ag::Variable a(test::random_tensor({2, 3}, DType::kFloat32, stream, 1));
  const ag::Variable b(test::random_tensor({2}, DType::kFloat32, stream, 1));
  CHECK_THROWS_WITH_AS(ag::add(a, b), "[add] b has shape [2], expected [2, 3]", ShapeError);
  CHECK_THROWS_AS(ag::multiply(a, b), ShapeError);
  CHECK_THROWS_WITH_AS(ag::add_broadcast(a, b),
                       "[add_broadcast] shape [2] is not the tail of [2, 3]", ShapeError);
}

}  // namespace hew
