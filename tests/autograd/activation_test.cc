#include "autograd/activation.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using kernels::Activation;

double closed_form(Activation kind, double x) {
  switch (kind) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
  }
  return NAN;
}

constexpr std::array<Activation, 5> kAll{Activation::kNone, Activation::kRelu, Activation::kGelu,
                                         Activation::kGeluTanh, Activation::kSilu};

}  // namespace

TEST_CASE_TEMPLATE("activations match their closed forms", T, float, double) {
  const Stream& stream = test::test_stream();
  // Float: vectorised erf, tanh and exp are good to a few ulp of the largest term.
  const double tolerance = std::is_same_v<T, float> ? 2e-6 : 1e-14;
  for (const Activation kind : kAll) {
    for (const std::int64_t n : {1, 7, 5003}) {
      const Tensor x = test::random_tensor({n}, kDTypeOf<T>, stream, 5);
      std::vector<T> expected;
      for (const T value : x.to_vector<T>()) {
        expected.push_back(static_cast<T>(closed_form(kind, static_cast<double>(value))));
      }
      Tensor y = Tensor::empty({n}, kDTypeOf<T>, stream);
      kernels::activation_forward(kind, x, y, stream);
      HEW_CHECK_CLOSE(y, Tensor::from(expected, {n}, stream), tolerance, tolerance);
    }
  }
}

TEST_CASE("activation gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const Activation kind : kAll) {
    CAPTURE(name_of(kind));
    for (const std::int64_t n : {1, 9, 31}) {
      const auto result = test::gradcheck(
          [kind](const std::vector<ag::Variable>& in) { return ag::activation(in[0], kind); },
          {test::random_tensor({2, n}, DType::kFloat64, stream, 6)});
      CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
    }
  }
}

TEST_CASE("activation names parse or say what is known") {
  for (const Activation kind : kAll) CHECK(kernels::parse_activation(name_of(kind)) == kind);
  CHECK_THROWS_AS(kernels::parse_activation("gleu"), ConfigError);
}

}  // namespace hew
