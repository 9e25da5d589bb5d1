#include "kernels/activation.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {

TEST_CASE("activation_backward's bias gradient is the sum of dx over rows") {
  const Stream& stream = test::test_stream();
  using kernels::Activation;
  for (const Activation kind : {Activation::kNone, Activation::kRelu, Activation::kGelu,
                                Activation::kGeluTanh, Activation::kSilu}) {
    for (const Shape& shape : {Shape{1, 1}, Shape{7, 13}, Shape{331, 65}}) {
      CAPTURE(name_of(kind));
      CAPTURE(to_string(shape));
      const Tensor x = test::random_tensor(shape, DType::kFloat64, stream, 1);
      const Tensor dy = test::random_tensor(shape, DType::kFloat64, stream, 2);
      Tensor wanted = Tensor::empty(shape, DType::kFloat64, stream);
      Tensor wanted_bias = Tensor::empty({shape[1]}, DType::kFloat64, stream);
      kernels::activation_backward(kind, x, dy, wanted, stream);
      kernels::sum_leading(wanted, wanted_bias, stream);
      Tensor dx = dy.clone();
      Tensor dbias = Tensor::empty({shape[1]}, DType::kFloat64, stream);
      kernels::activation_backward({.activation = kind, .x = x, .dy = dx, .dx = dx, .dbias = dbias},
                                   stream);
      CHECK(test::same_bytes(dx, wanted));
      HEW_CHECK_CLOSE(dbias, wanted_bias, 1e-12, 1e-12);
    }
  }
}

TEST_CASE("activation_backward refuses a bias gradient that does not fit") {
  const Stream& stream = test::test_stream();
  const Tensor x = Tensor::zeros({2, 3, 4}, DType::kFloat32, stream);
  Tensor dx = Tensor::zeros({2, 3, 4}, DType::kFloat32, stream);
  Tensor dbias = Tensor::zeros({4}, DType::kFloat32, stream);
  CHECK_THROWS_AS(kernels::activation_backward({.x = x, .dy = x, .dx = dx, .dbias = dbias}, stream),
                  ShapeError);
  CHECK_THROWS_AS(kernels::activation_backward({.x = x.reshape({4, 6}),
                                                .dy = x.reshape({4, 6}),
                                                .dx = dx.reshape({4, 6}),
                                                .dbias = dbias},
                                               stream),
                  ShapeError);
}

}  // namespace hew
