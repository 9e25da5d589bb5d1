#include "kernels/linear.h"

#include <doctest/doctest.h>
#include <omp.h>

#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/product.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using kernels::Activation;
using test::reference_product;
using test::Transpose;

struct Size {
  std::int64_t m, n, k;
};

// 1, odd, prime, more than one tile each way; no tokens and no depth.
constexpr std::array<Size, 7> kSizes{
    {{1, 1, 1}, {7, 5, 3}, {31, 37, 41}, {600, 3, 17}, {33, 1601, 9}, {0, 4, 4}, {3, 4, 0}}};

// Of the same bytes; on a GPU, where products are planned call by call, within the tolerance.
void check_agree(const Tensor& got, const Tensor& expected, double tolerance_on_gpu) {
  if (test::on_gpu()) {
    HEW_CHECK_CLOSE(got, expected, 0, tolerance_on_gpu);
  } else {
    CHECK(test::same_bytes(got, expected));
  }
}

// Runs `body` with that many threads, then puts the number back.
template <class Body>
void with_threads(int threads, const Body& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  body();
  omp_set_num_threads(before);
}

}  // namespace

TEST_CASE_TEMPLATE("linear products match the triple loop", T, float, double) {
  const Stream& stream = test::test_stream();
  const DType dtype = kDTypeOf<T>;
  for (const auto& [m, n, k] : kSizes) {
    CAPTURE(m);
    CAPTURE(n);
    CAPTURE(k);
    const Tensor x = test::random_tensor({m, k}, dtype, stream, 1);
    const Tensor w = test::random_tensor({n, k}, dtype, stream, 2);
    const Tensor dy = test::random_tensor({m, n}, dtype, stream, 3);
    Tensor y = Tensor::empty({m, n}, dtype, stream);
    kernels::linear_forward({.x = x, .w = w, .y = y}, stream);
    const auto forward = reference_product(x, Transpose::kNo, w, Transpose::kYes);
    HEW_CHECK_CLOSE(test::widen(y), forward.value, 0, forward.tolerance(dtype));
    Tensor dx = Tensor::empty({m, k}, dtype, stream);
    kernels::linear_input_gradient({.dy = dy, .w = w, .dx = dx}, stream);
    const auto input = reference_product(dy, Transpose::kNo, w, Transpose::kNo);
    HEW_CHECK_CLOSE(test::widen(dx), input.value, 0, input.tolerance(dtype));
    Tensor dw = Tensor::empty({n, k}, dtype, stream);
    kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = dw}, stream);
    const auto weight = reference_product(dy, Transpose::kYes, x, Transpose::kNo);
    HEW_CHECK_CLOSE(test::widen(dw), weight.value, 0, weight.tolerance(dtype));
    Tensor twice = dw.clone();
    kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = twice, .accumulate = true}, stream);
    Tensor doubled = dw.clone();
    kernels::scale(2, doubled, stream);
    HEW_CHECK_CLOSE(twice, doubled, 0, 2 * weight.tolerance(dtype));
  }
}

TEST_CASE("linear_forward adds the bias, keeps the pre-activation, then applies the activation") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({37, 11}, DType::kFloat64, stream, 1);
  const Tensor w = test::random_tensor({1601, 11}, DType::kFloat64, stream, 2);
  const Tensor bias = test::random_tensor({1601}, DType::kFloat64, stream, 3);
  Tensor expected_pre = Tensor::empty({37, 1601}, DType::kFloat64, stream);
  kernels::linear_forward({.x = x, .w = w, .y = expected_pre}, stream);
  kernels::add_broadcast(expected_pre, bias, expected_pre, stream);
  Tensor expected = Tensor::empty(expected_pre.shape(), DType::kFloat64, stream);
  kernels::activation_forward(Activation::kGelu, expected_pre, expected, stream);

  Tensor y = Tensor::empty(expected.shape(), DType::kFloat64, stream);
  Tensor pre = Tensor::empty(expected.shape(), DType::kFloat64, stream);
  const auto gelu = Activation::kGelu;
  kernels::linear_forward({.x = x, .w = w, .bias = bias, .activation = gelu, .y = y, .pre = pre},
                          stream);
  HEW_CHECK_CLOSE(pre, expected_pre, 0, 1e-13);
  HEW_CHECK_CLOSE(y, expected, 0, 1e-13);
  Tensor without_pre = Tensor::empty(expected.shape(), DType::kFloat64, stream);
  kernels::linear_forward({.x = x, .w = w, .bias = bias, .activation = gelu, .y = without_pre},
                          stream);
  check_agree(without_pre, y, 1e-13);
}

TEST_CASE_TEMPLATE("linear_input_gradient adds to dx, or goes on through the activation", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  const DType dtype = kDTypeOf<T>;
  for (const auto& [m, n, k] : kSizes) {
    CAPTURE(m);
    CAPTURE(n);
    CAPTURE(k);
    const Tensor dy = test::random_tensor({m, n}, dtype, stream, 1);
    const Tensor w = test::random_tensor({n, k}, dtype, stream, 2);
    const Tensor pre = test::random_tensor({m, k}, dtype, stream, 3);
    Tensor plain = Tensor::empty({m, k}, dtype, stream);
    kernels::linear_input_gradient({.dy = dy, .w = w, .dx = plain}, stream);
    const double tolerance =
        reference_product(dy, Transpose::kNo, w, Transpose::kNo).tolerance(dtype);
    Tensor sum = pre.clone();
    kernels::linear_input_gradient({.dy = dy, .w = w, .dx = sum, .accumulate = true}, stream);
    Tensor expected = Tensor::empty({m, k}, dtype, stream);
    kernels::add(plain, pre, expected, stream);
    HEW_CHECK_CLOSE(sum, expected, 0, 2 * tolerance);
    for (const auto activation :
         {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
      kernels::activation_backward(activation, pre, plain, expected, stream);
      Tensor expected_bias = Tensor::empty({k}, dtype, stream);
      kernels::sum_leading(expected, expected_bias, stream);
      Tensor dx = Tensor::empty({m, k}, dtype, stream);
      Tensor dbias = Tensor::empty({k}, dtype, stream);
      kernels::linear_input_gradient(
          {.dy = dy, .w = w, .dx = dx, .activation = activation, .pre = pre, .dbias = dbias},
          stream);
      // Two products, and no |act'| reaches 1.2.
      check_agree(dx, expected, 3 * tolerance);
      check_agree(dbias, expected_bias, 6 * static_cast<double>(m) * tolerance);
    }
  }
}

TEST_CASE_TEMPLATE("linear_weight_gradient sums the bias gradient, and adds to it", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  const DType dtype = kDTypeOf<T>;
  for (const auto& [m, n, k] : kSizes) {
    CAPTURE(m);
    CAPTURE(n);
    const Tensor dy = test::random_tensor({m, n}, dtype, stream, 1);
    const Tensor x = test::random_tensor({m, k}, dtype, stream, 2);
    const Tensor ones =
        Tensor::from(std::vector<T>(static_cast<std::size_t>(m), T(1)), {m, 1}, stream);
    const auto reference = reference_product(dy, Transpose::kYes, ones, Transpose::kNo);
    Tensor dw = Tensor::empty({n, k}, dtype, stream);
    Tensor dbias = Tensor::empty({n}, dtype, stream);
    kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = dw, .dbias = dbias}, stream);
    HEW_CHECK_CLOSE(test::widen(dbias).reshape({n, 1}), reference.value, 0,
                    reference.tolerance(dtype));
    Tensor twice = dbias.clone();
    kernels::linear_weight_gradient(
        {.dy = dy, .x = x, .dw = dw, .accumulate = true, .dbias = twice}, stream);
    kernels::scale(2, dbias, stream);
    check_agree(twice, dbias, 4 * reference.tolerance(dtype));
  }
}

TEST_CASE("linear products do not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({331, 257}, DType::kFloat32, stream, 1);
  const Tensor w = test::random_tensor({67, 257}, DType::kFloat32, stream, 2);
  const Tensor dy = test::random_tensor({331, 67}, DType::kFloat32, stream, 3);
  auto run = [&](int threads) {
    std::vector<Tensor> out{Tensor::empty({331, 67}, DType::kFloat32, stream),
                            Tensor::empty({331, 257}, DType::kFloat32, stream),
                            Tensor::empty({67, 257}, DType::kFloat32, stream)};
    with_threads(threads, [&] {
      kernels::linear_forward({.x = x, .w = w, .y = out[0]}, stream);
      kernels::linear_input_gradient({.dy = dy, .w = w, .dx = out[1]}, stream);
      kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = out[2]}, stream);
    });
    return out;
  };
  const std::vector<Tensor> one = run(1);
  for (const int threads : {2, 3}) {
    const std::vector<Tensor> many = run(threads);
    for (std::size_t i = 0; i < one.size(); ++i) CHECK(test::same_bytes(one[i], many[i]));
  }
}

TEST_CASE("linear products refuse what does not fit") {
  const Stream& stream = test::test_stream();
  const Tensor x = Tensor::zeros({4, 3}, DType::kFloat32, stream);
  const Tensor w = Tensor::zeros({5, 3}, DType::kFloat32, stream);
  Tensor y = Tensor::zeros({4, 5}, DType::kFloat32, stream);
  Tensor wrong = Tensor::zeros({4, 4}, DType::kFloat32, stream);
  Tensor wide = Tensor::zeros({4, 5}, DType::kFloat64, stream);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = y, .y = y}, stream), ShapeError);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = w, .y = wrong}, stream), ShapeError);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = w, .y = wide}, stream), DtypeError);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = w, .bias = x, .y = y}, stream), ShapeError);
  CHECK_THROWS_AS(kernels::linear_input_gradient({.dy = y, .w = x, .dx = wrong}, stream),
                  ShapeError);
  CHECK_THROWS_AS(kernels::linear_weight_gradient({.dy = y, .x = x, .dw = wrong}, stream),
                  ShapeError);
  Tensor dx = Tensor::zeros({4, 3}, DType::kFloat32, stream);
  const auto relu = Activation::kRelu;
  CHECK_THROWS_AS(
      kernels::linear_input_gradient({.dy = y, .w = w, .dx = dx, .activation = relu}, stream),
      ShapeError);  // no pre
  CHECK_THROWS_AS(
      kernels::linear_input_gradient(
          {.dy = y, .w = w, .dx = dx, .accumulate = true, .activation = relu, .pre = x}, stream),
      Error);
  Tensor dbias = Tensor::zeros({3}, DType::kFloat32, stream);
  CHECK_THROWS_AS(
      kernels::linear_input_gradient({.dy = y, .w = w, .dx = dx, .dbias = dbias}, stream), Error);
  Tensor dw = Tensor::zeros({5, 3}, DType::kFloat32, stream);
  CHECK_THROWS_AS(
      kernels::linear_weight_gradient({.dy = y, .x = x, .dw = dw, .dbias = dbias}, stream),
      ShapeError);
}

}  // namespace hew
