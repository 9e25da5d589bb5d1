#include "kernels/elementwise.h"

#include <doctest/doctest.h>
#include <omp.h>

#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace hew {

TEST_CASE_TEMPLATE("elementwise kernels match their formulas", T, float, double) {
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t n : {1, 7, 10007}) {
    const Tensor a = test::random_tensor({3, n}, kDTypeOf<T>, cpu, 1);
    const Tensor b = test::random_tensor({3, n}, kDTypeOf<T>, cpu, 2);
    Tensor y = Tensor::empty({3, n}, kDTypeOf<T>, cpu);
    kernels::add(a, b, y, cpu);
    Tensor product = Tensor::empty({3, n}, kDTypeOf<T>, cpu);
    kernels::multiply(a, b, product, cpu);
    Tensor sum = Tensor::empty({n}, kDTypeOf<T>, cpu);
    kernels::sum_leading(a, sum, cpu);
    double squares = 0;
    for (std::int64_t i = 0; i < 3 * n; ++i) {
      REQUIRE(y.template data<T>()[i] == a.template data<T>()[i] + b.template data<T>()[i]);
      REQUIRE(product.template data<T>()[i] == a.template data<T>()[i] * b.template data<T>()[i]);
      squares += static_cast<double>(a.template data<T>()[i]) * a.template data<T>()[i];
    }
    CHECK(kernels::sum_of_squares(a, cpu) == doctest::Approx(squares).epsilon(1e-12));
    Tensor shifted = Tensor::empty({3, n}, kDTypeOf<T>, cpu);
    kernels::add_broadcast(a, sum, shifted, cpu);
    const T* pa = a.template data<T>();
    const T* ps = sum.template data<T>();
    for (std::int64_t j = 0; j < n; ++j) {
      REQUIRE(ps[j] == pa[j] + pa[n + j] + pa[2 * n + j]);
      for (const std::int64_t i : {j, n + j, 2 * n + j}) {
        REQUIRE(shifted.template data<T>()[i] == pa[i] + ps[j]);
      }
    }
  }
}

TEST_CASE("sums do not depend on the number of threads") {
  const Stream cpu = make_cpu_stream();
  const Tensor x = test::random_tensor({601, 193}, DType::kFloat32, cpu, 1);
  const int before = omp_get_max_threads();
  std::vector<Tensor> sums;
  std::vector<double> squares;
  for (const int threads : {1, 2, 3, 7}) {
    omp_set_num_threads(threads);
    kernels::sum_leading(x, sums.emplace_back(Tensor::empty({193}, DType::kFloat32, cpu)), cpu);
    squares.push_back(kernels::sum_of_squares(x, cpu));
  }
  omp_set_num_threads(before);
  for (std::size_t i = 1; i < sums.size(); ++i) {
    CHECK(test::same_bytes(sums[i], sums[0]));
    CHECK(squares[i] == squares[0]);
  }
}

TEST_CASE("cast goes through bfloat16 and back within its epsilon") {
  const Stream cpu = make_cpu_stream();
  const Tensor x = test::random_tensor({1000}, DType::kFloat32, cpu, 3);
  Tensor half = Tensor::empty({1000}, DType::kBFloat16, cpu);
  Tensor back = Tensor::empty({1000}, DType::kFloat32, cpu);
  kernels::cast(x, half, cpu);
  kernels::cast(half, back, cpu);
  HEW_CHECK_CLOSE(back, x, 0x1p-8);
}

TEST_CASE("scale_by multiplies by a number that lies in a tensor") {
  const Stream cpu = make_cpu_stream();
  const Tensor x = test::random_tensor({1009}, DType::kFloat64, cpu, 3);
  Tensor by_tensor = x.clone();
  Tensor by_number = x.clone();
  kernels::scale_by(Tensor::from(std::vector<double>{-0.7}, {}, cpu), by_tensor, cpu);
  kernels::scale(-0.7, by_number, cpu);
  CHECK(test::same_bytes(by_tensor, by_number));
  CHECK_THROWS_AS(kernels::scale_by(Tensor::zeros({1}, DType::kFloat64, cpu), by_tensor, cpu),
                  ShapeError);
  CHECK_THROWS_AS(kernels::scale_by(Tensor::zeros({}, DType::kFloat32, cpu), by_tensor, cpu),
                  DtypeError);
}

TEST_CASE("elementwise kernels refuse what does not fit") {
  const Stream cpu = make_cpu_stream();
  Tensor a = Tensor::zeros({2, 3}, DType::kFloat32, cpu);
  Tensor b = Tensor::zeros({3, 2}, DType::kFloat32, cpu);
  CHECK_THROWS_AS(kernels::add(a, b, a, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::add(a, Tensor::zeros({2, 3}, DType::kFloat64, cpu), a, cpu), DtypeError);
  CHECK_THROWS_AS(kernels::scale(2, Tensor::zeros({2}, DType::kInt32, cpu), cpu), DtypeError);
}

}  // namespace hew
