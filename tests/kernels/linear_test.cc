#include "kernels/linear.h"

#include <doctest/doctest.h>
#include <omp.h>

#include "kernels/elementwise.h"
#include "tests/support/compare.h"
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
  const Stream cpu = make_cpu_stream();
  const DType dtype = kDTypeOf<T>;
  for (const auto& [m, n, k] : kSizes) {
    CAPTURE(m);
    CAPTURE(n);
    CAPTURE(k);
    const Tensor x = test::random_tensor({m, k}, dtype, cpu, 1);
    const Tensor w = test::random_tensor({n, k}, dtype, cpu, 2);
    const Tensor dy = test::random_tensor({m, n}, dtype, cpu, 3);
    Tensor y = Tensor::empty({m, n}, dtype, cpu);
    kernels::linear_forward({.x = x, .w = w, .y = y}, cpu);
    const auto forward = reference_product(x, Transpose::kNo, w, Transpose::kYes);
    HEW_CHECK_CLOSE(test::widen(y), forward.value, 0, forward.tolerance(dtype));
    Tensor dx = Tensor::empty({m, k}, dtype, cpu);
    kernels::linear_input_gradient({.dy = dy, .w = w, .dx = dx}, cpu);
    const auto input = reference_product(dy, Transpose::kNo, w, Transpose::kNo);
    HEW_CHECK_CLOSE(test::widen(dx), input.value, 0, input.tolerance(dtype));
    Tensor dw = Tensor::empty({n, k}, dtype, cpu);
    kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = dw}, cpu);
    const auto weight = reference_product(dy, Transpose::kYes, x, Transpose::kNo);
    HEW_CHECK_CLOSE(test::widen(dw), weight.value, 0, weight.tolerance(dtype));
    Tensor twice = dw.clone();
    kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = twice, .accumulate = true}, cpu);
    Tensor doubled = dw.clone();
    for (std::int64_t i = 0; i < n * k; ++i) doubled.template data<T>()[i] *= 2;
    HEW_CHECK_CLOSE(twice, doubled, 0, 2 * weight.tolerance(dtype));
  }
}

TEST_CASE("linear_forward adds the bias, keeps the pre-activation, then applies the activation") {
  const Stream cpu = make_cpu_stream();
  const Tensor x = test::random_tensor({37, 11}, DType::kFloat64, cpu, 1);
  const Tensor w = test::random_tensor({1601, 11}, DType::kFloat64, cpu, 2);
  const Tensor bias = test::random_tensor({1601}, DType::kFloat64, cpu, 3);
  Tensor expected_pre = Tensor::empty({37, 1601}, DType::kFloat64, cpu);
  kernels::linear_forward({.x = x, .w = w, .y = expected_pre}, cpu);
  for (std::int64_t i = 0; i < expected_pre.numel(); ++i) {
    expected_pre.data<double>()[i] += bias.data<double>()[i % 1601];
  }
  Tensor expected = Tensor::empty(expected_pre.shape(), DType::kFloat64, cpu);
  kernels::activation_forward(Activation::kGelu, expected_pre, expected, cpu);

  Tensor y = Tensor::empty(expected.shape(), DType::kFloat64, cpu);
  Tensor pre = Tensor::empty(expected.shape(), DType::kFloat64, cpu);
  const auto gelu = Activation::kGelu;
  kernels::linear_forward({.x = x, .w = w, .bias = bias, .activation = gelu, .y = y, .pre = pre},
                          cpu);
  HEW_CHECK_CLOSE(pre, expected_pre, 0, 1e-13);
  HEW_CHECK_CLOSE(y, expected, 0, 1e-13);
  Tensor without_pre = Tensor::empty(expected.shape(), DType::kFloat64, cpu);
  kernels::linear_forward({.x = x, .w = w, .bias = bias, .activation = gelu, .y = without_pre},
                          cpu);
  CHECK(test::same_bytes(without_pre, y));
}

TEST_CASE_TEMPLATE("linear_input_gradient adds to dx, or goes on through the activation", T, float,
                   double) {
  const Stream cpu = make_cpu_stream();
  const DType dtype = kDTypeOf<T>;
  for (const auto& [m, n, k] : kSizes) {
    CAPTURE(m);
    CAPTURE(n);
    CAPTURE(k);
    const Tensor dy = test::random_tensor({m, n}, dtype, cpu, 1);
    const Tensor w = test::random_tensor({n, k}, dtype, cpu, 2);
    const Tensor pre = test::random_tensor({m, k}, dtype, cpu, 3);
    Tensor plain = Tensor::empty({m, k}, dtype, cpu);
    kernels::linear_input_gradient({.dy = dy, .w = w, .dx = plain}, cpu);
    const double tolerance =
        reference_product(dy, Transpose::kNo, w, Transpose::kNo).tolerance(dtype);
    Tensor sum = pre.clone();
    kernels::linear_input_gradient({.dy = dy, .w = w, .dx = sum, .accumulate = true}, cpu);
    Tensor expected = Tensor::empty({m, k}, dtype, cpu);
    kernels::add(plain, pre, expected, cpu);
    HEW_CHECK_CLOSE(sum, expected, 0, 2 * tolerance);
    for (const auto activation :
         {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
      kernels::activation_backward(activation, pre, plain, expected, cpu);
      Tensor expected_bias = Tensor::empty({k}, dtype, cpu);
      kernels::sum_leading(expected, expected_bias, cpu);
      Tensor dx = Tensor::empty({m, k}, dtype, cpu);
      Tensor dbias = Tensor::empty({k}, dtype, cpu);
      kernels::linear_input_gradient(
          {.dy = dy, .w = w, .dx = dx, .activation = activation, .pre = pre, .dbias = dbias}, cpu);
      CHECK(test::same_bytes(dx, expected));
      CHECK(test::same_bytes(dbias, expected_bias));
    }
  }
}

TEST_CASE_TEMPLATE("linear_weight_gradient sums the bias gradient, and adds to it", T, float,
                   double) {
  const Stream cpu = make_cpu_stream();
  const DType dtype = kDTypeOf<T>;
  for (const auto& [m, n, k] : kSizes) {
    CAPTURE(m);
    CAPTURE(n);
    const Tensor dy = test::random_tensor({m, n}, dtype, cpu, 1);
    const Tensor x = test::random_tensor({m, k}, dtype, cpu, 2);
    const Tensor ones =
        Tensor::from(std::vector<T>(static_cast<std::size_t>(m), T(1)), {m, 1}, cpu);
    const auto reference = reference_product(dy, Transpose::kYes, ones, Transpose::kNo);
    Tensor dw = Tensor::empty({n, k}, dtype, cpu);
    Tensor dbias = Tensor::empty({n}, dtype, cpu);
    kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = dw, .dbias = dbias}, cpu);
    HEW_CHECK_CLOSE(test::widen(dbias).reshape({n, 1}), reference.value, 0,
                    reference.tolerance(dtype));
    Tensor twice = dbias.clone();
    kernels::linear_weight_gradient(
        {.dy = dy, .x = x, .dw = dw, .accumulate = true, .dbias = twice}, cpu);
    kernels::scale(2, dbias, cpu);
    CHECK(test::same_bytes(twice, dbias));
  }
}

TEST_CASE("linear products do not depend on the number of threads") {
  const Stream cpu = make_cpu_stream();
  const Tensor x = test::random_tensor({331, 257}, DType::kFloat32, cpu, 1);
  const Tensor w = test::random_tensor({67, 257}, DType::kFloat32, cpu, 2);
  const Tensor dy = test::random_tensor({331, 67}, DType::kFloat32, cpu, 3);
  auto run = [&](int threads) {
    std::vector<Tensor> out{Tensor::empty({331, 67}, DType::kFloat32, cpu),
                            Tensor::empty({331, 257}, DType::kFloat32, cpu),
                            Tensor::empty({67, 257}, DType::kFloat32, cpu)};
    with_threads(threads, [&] {
      kernels::linear_forward({.x = x, .w = w, .y = out[0]}, cpu);
      kernels::linear_input_gradient({.dy = dy, .w = w, .dx = out[1]}, cpu);
      kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = out[2]}, cpu);
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
  const Stream cpu = make_cpu_stream();
  const Tensor x = Tensor::zeros({4, 3}, DType::kFloat32, cpu);
  const Tensor w = Tensor::zeros({5, 3}, DType::kFloat32, cpu);
  Tensor y = Tensor::zeros({4, 5}, DType::kFloat32, cpu);
  Tensor wrong = Tensor::zeros({4, 4}, DType::kFloat32, cpu);
  Tensor wide = Tensor::zeros({4, 5}, DType::kFloat64, cpu);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = y, .y = y}, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = w, .y = wrong}, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = w, .y = wide}, cpu), DtypeError);
  CHECK_THROWS_AS(kernels::linear_forward({.x = x, .w = w, .bias = x, .y = y}, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::linear_input_gradient({.dy = y, .w = x, .dx = wrong}, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::linear_weight_gradient({.dy = y, .x = x, .dw = wrong}, cpu), ShapeError);
  Tensor dx = Tensor::zeros({4, 3}, DType::kFloat32, cpu);
  const auto relu = Activation::kRelu;
  CHECK_THROWS_AS(
      kernels::linear_input_gradient({.dy = y, .w = w, .dx = dx, .activation = relu}, cpu),
      ShapeError);  // no pre
  CHECK_THROWS_AS(
      kernels::linear_input_gradient(
          {.dy = y, .w = w, .dx = dx, .accumulate = true, .activation = relu, .pre = x}, cpu),
      Error);
  Tensor dbias = Tensor::zeros({3}, DType::kFloat32, cpu);
  CHECK_THROWS_AS(kernels::linear_input_gradient({.dy = y, .w = w, .dx = dx, .dbias = dbias}, cpu),
                  Error);
  Tensor dw = Tensor::zeros({5, 3}, DType::kFloat32, cpu);
  CHECK_THROWS_AS(kernels::linear_weight_gradient({.dy = y, .x = x, .dw = dw, .dbias = dbias}, cpu),
                  ShapeError);
}

}  // namespace hew
