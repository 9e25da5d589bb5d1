#include "autograd/swiglu.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "kernels/swiglu.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

ag::Variable swiglu(const std::vector<ag::Variable>& in) {
  return ag::swiglu(in[0], in[1]);
}

}  // namespace

TEST_CASE_TEMPLATE("swiglu matches its closed form", T, float, double) {
  const Stream& stream = test::test_stream();
  // Vectorised exp is good to a few ulp.
  const double tolerance = 16 * double(std::numeric_limits<T>::epsilon());
  for (const std::int64_t n : {1, 7, 5003}) {
    const Tensor gate = test::random_tensor({n}, kDTypeOf<T>, stream, 1);
    const Tensor up = test::random_tensor({n}, kDTypeOf<T>, stream, 2);
    const std::vector<T> gates = gate.to_vector<T>();
    const std::vector<T> ups = up.to_vector<T>();
    std::vector<T> expected;
    for (std::size_t i = 0; i < gates.size(); ++i) {
      const double g = double(gates[i]);
      expected.push_back(T(g / (1 + std::exp(-g)) * double(ups[i])));
    }
    HEW_CHECK_CLOSE(swiglu({ag::Variable(gate), ag::Variable(up)}).value(),
                    Tensor::from(expected, {n}, stream), tolerance, tolerance);
  }
}

TEST_CASE("swiglu gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t n : {1, 9, 31}) {
    const auto result =
        test::gradcheck(swiglu, {test::random_tensor({3, n}, DType::kFloat64, stream, 3),
                                 test::random_tensor({3, n}, DType::kFloat64, stream, 4)});
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  }
}

TEST_CASE("swiglu's gradients may take the place of its inputs") {
  const Stream& stream = test::test_stream();
  Tensor gate = test::random_tensor({2049}, DType::kFloat32, stream, 3);
  Tensor up = test::random_tensor({2049}, DType::kFloat32, stream, 4);
  const Tensor dy = test::random_tensor({2049}, DType::kFloat32, stream, 77);
  const auto expected = test::value_and_gradients(swiglu, {gate, up});
  kernels::swiglu_backward({.gate = gate, .up = up, .dy = dy, .dgate = gate, .dup = up}, stream);
  CHECK(test::same_bytes(gate, expected[1]));
  CHECK(test::same_bytes(up, expected[2]));
}

TEST_CASE("swiglu is finite at the ends, and does not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor ends =
      Tensor::from(std::vector<float>{-1e30F, -200, -90, 90, 200, 1e30F}, {6}, stream);
  const Tensor ones = Tensor::from(std::vector<float>(6, 1.0F), {6}, stream);
  const auto out = test::value_and_gradients(swiglu, {ends, ones});
  for (const Tensor& t : out) {
    for (const float value : t.to_vector<float>()) CHECK(std::isfinite(value));
  }
  CHECK(out[0].to_vector<float>()[4] == 200);
  CHECK(test::independent_of_threads(swiglu,
                                     {test::random_tensor({61, 173}, DType::kFloat32, stream, 5),
                                      test::random_tensor({61, 173}, DType::kFloat32, stream, 6)}));
}

TEST_CASE("swiglu refuses what does not fit") {
  const Stream& stream = test::test_stream();
  const ag::Variable a(Tensor::zeros({2, 3}, DType::kFloat32, stream));
  const ag::Variable b(Tensor::zeros({3, 2}, DType::kFloat32, stream));
  CHECK_THROWS_WITH_AS(ag::swiglu(a, b), "[swiglu] up has shape [3, 2], expected [2, 3]",
                       ShapeError);
  CHECK_THROWS_AS(ag::swiglu(a, ag::Variable(Tensor::zeros({2, 3}, DType::kFloat64, stream))),
                  DtypeError);
}

}  // namespace hew
