#include "autograd/swiglu.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/gradcheck.h"
#include "core/error.h"
#include "kernels/swiglu.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

ag::Variable swiglu(const std::vector<ag::Variable>& in) {
  return ag::swiglu(in[0], in[1]);
}

}  // namespace

TEST_CASE_TEMPLATE("swiglu matches its closed form", T, float, double) {
  const Stream cpu = make_cpu_stream();
  // Vectorised exp is good to a few ulp.
  const double tolerance = 16 * double(std::numeric_limits<T>::epsilon());
  for (const std::int64_t n : {1, 7, 5003}) {
    const Tensor gate = test::random_tensor({n}, kDTypeOf<T>, cpu, 1);
    const Tensor up = test::random_tensor({n}, kDTypeOf<T>, cpu, 2);
    std::vector<T> expected;
    for (std::int64_t i = 0; i < n; ++i) {
      const double g = double(gate.data<T>()[i]);
      expected.push_back(T(g / (1 + std::exp(-g)) * double(up.data<T>()[i])));
    }
    HEW_CHECK_CLOSE(swiglu({ag::Variable(gate), ag::Variable(up)}).value(),
                    Tensor::from(expected, {n}, cpu), tolerance, tolerance);
  }
}

TEST_CASE("swiglu gradients agree with central differences") {
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t n : {1, 9, 31}) {
    const auto result =
        ag::gradcheck(swiglu, {test::random_tensor({3, n}, DType::kFloat64, cpu, 3),
                               test::random_tensor({3, n}, DType::kFloat64, cpu, 4)});
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  }
}

TEST_CASE("swiglu's gradients may take the place of its inputs") {
  const Stream cpu = make_cpu_stream();
  Tensor gate = test::random_tensor({2049}, DType::kFloat32, cpu, 3);
  Tensor up = test::random_tensor({2049}, DType::kFloat32, cpu, 4);
  const Tensor dy = test::random_tensor({2049}, DType::kFloat32, cpu, 77);
  const auto expected = test::value_and_gradients(swiglu, {gate, up});
  kernels::swiglu_backward({.gate = gate, .up = up, .dy = dy, .dgate = gate, .dup = up}, cpu);
  CHECK(test::same_bytes(gate, expected[1]));
  CHECK(test::same_bytes(up, expected[2]));
}

TEST_CASE("swiglu is finite at the ends, and does not depend on the number of threads") {
  const Stream cpu = make_cpu_stream();
  const Tensor ends = Tensor::from(std::vector<float>{-1e30F, -200, -90, 90, 200, 1e30F}, {6}, cpu);
  const Tensor ones = Tensor::from(std::vector<float>(6, 1.0F), {6}, cpu);
  const auto out = test::value_and_gradients(swiglu, {ends, ones});
  for (const Tensor& t : out) {
    for (const float value : t.to_vector<float>()) CHECK(std::isfinite(value));
  }
  CHECK(out[0].to_vector<float>()[4] == 200);
  CHECK(test::independent_of_threads(swiglu,
                                     {test::random_tensor({61, 173}, DType::kFloat32, cpu, 5),
                                      test::random_tensor({61, 173}, DType::kFloat32, cpu, 6)}));
}

TEST_CASE("swiglu refuses what does not fit") {
  const Stream cpu = make_cpu_stream();
  const ag::Variable a(Tensor::zeros({2, 3}, DType::kFloat32, cpu));
  const ag::Variable b(Tensor::zeros({3, 2}, DType::kFloat32, cpu));
  CHECK_THROWS_WITH_AS(ag::swiglu(a, b), "[swiglu] up has shape [3, 2], expected [2, 3]",
                       ShapeError);
  CHECK_THROWS_AS(ag::swiglu(a, ag::Variable(Tensor::zeros({2, 3}, DType::kFloat64, cpu))),
                  DtypeError);
}

}  // namespace hew
