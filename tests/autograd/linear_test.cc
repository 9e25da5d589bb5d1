#include "autograd/linear.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {

using kernels::Activation;

TEST_CASE("linear gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  struct Size {
    std::int64_t m, n, k;
  };
  for (const auto& [m, n, k] : {Size{1, 1, 1}, Size{3, 5, 7}, Size{13, 4, 2}}) {
    const std::vector<Tensor> inputs{test::random_tensor({m, k}, DType::kFloat64, stream, 1),
                                     test::random_tensor({n, k}, DType::kFloat64, stream, 2),
                                     test::random_tensor({n}, DType::kFloat64, stream, 3)};
    for (const Activation kind : {Activation::kNone, Activation::kGeluTanh, Activation::kSilu}) {
      CAPTURE(kernels::name_of(kind));
      const auto with_bias = test::gradcheck(
          [kind](const std::vector<ag::Variable>& in) {
            return ag::linear(in[0], in[1], in[2], kind);
          },
          inputs);
      CHECK_MESSAGE(with_bias.max_relative_error <= 1e-6, with_bias.worst);
      const auto without = test::gradcheck(
          [kind](const std::vector<ag::Variable>& in) {
            return ag::linear(in[0], in[1], ag::Variable(), kind);
          },
          {inputs[0], inputs[1]});
      CHECK_MESSAGE(without.max_relative_error <= 1e-6, without.worst);
    }
  }
}

TEST_CASE("linear gives gradients only to the inputs that want one") {
  const Stream& stream = test::test_stream();
  const ag::Variable x(test::random_tensor({4, 3}, DType::kFloat32, stream, 1));
  const ag::Variable w(test::random_tensor({2, 3}, DType::kFloat32, stream, 2),
                       /*requires_grad=*/true);
  const ag::Variable bias(test::random_tensor({2}, DType::kFloat32, stream, 3));
  ag::backward(ag::linear(x, w, bias, Activation::kRelu));
  CHECK(w.grad().defined());
  CHECK_FALSE(x.grad().defined());
  CHECK_FALSE(bias.grad().defined());
  CHECK_THROWS_AS(ag::linear(w, bias), ShapeError);
  CHECK_THROWS_AS(ag::linear(x, ag::Variable(Tensor::zeros({2, 4}, DType::kFloat32, stream))),
                  ShapeError);
}

}  // namespace hew
