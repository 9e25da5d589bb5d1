#include "kernels/elementwise.h"

#include <doctest/doctest.h>
#include <omp.h>

#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {

TEST_CASE_TEMPLATE("elementwise kernels match their formulas", T, float, double) {
  const Stream& stream = test::test_stream();
  for (const std::int64_t n : {1, 7, 10007}) {
    const Tensor a = test::random_tensor({3, n}, kDTypeOf<T>, stream, 1);
    const Tensor b = test::random_tensor({3, n}, kDTypeOf<T>, stream, 2);
    Tensor y = Tensor::empty({3, n}, kDTypeOf<T>, stream);
    kernels::add(a, b, y, stream);
    Tensor product = Tensor::empty({3, n}, kDTypeOf<T>, stream);
    kernels::multiply(a, b, product, stream);
    Tensor sum = Tensor::empty({n}, kDTypeOf<T>, stream);
    kernels::sum_leading(a, sum, stream);
    const std::vector<T> va = a.template to_vector<T>();
    const std::vector<T> vb = b.template to_vector<T>();
    const std::vector<T> vy = y.template to_vector<T>();
    const std::vector<T> vproduct = product.template to_vector<T>();
    double squares = 0;
    for (std::size_t i = 0; i < va.size(); ++i) {
      REQUIRE(vy[i] == va[i] + vb[i]);
      REQUIRE(vproduct[i] == va[i] * vb[i]);
      squares += static_cast<double>(va[i]) * va[i];
    }
    CHECK(kernels::sum_of_squares(a, stream) == doctest::Approx(squares).epsilon(1e-12));
    Tensor shifted = Tensor::empty({3, n}, kDTypeOf<T>, stream);
    kernels::add_broadcast(a, sum, shifted, stream);
    const std::vector<T> vsum = sum.template to_vector<T>();
    const std::vector<T> vshifted = shifted.template to_vector<T>();
    const std::size_t inner = vsum.size();
    for (std::size_t j = 0; j < inner; ++j) {
      REQUIRE(vsum[j] == va[j] + va[inner + j] + va[2 * inner + j]);
      for (const std::size_t i : {j, inner + j, 2 * inner + j}) {
        REQUIRE(vshifted[i] == va[i] + vsum[j]);
      }
    }
  }
}

TEST_CASE("sums do not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({601, 193}, DType::kFloat32, stream, 1);
  const int before = omp_get_max_threads();
  std::vector<Tensor> sums;
  std::vector<double> squares;
  for (const int threads : {1, 2, 3, 7}) {
    omp_set_num_threads(threads);
    kernels::sum_leading(x, sums.emplace_back(Tensor::empty({193}, DType::kFloat32, stream)),
                         stream);
    squares.push_back(kernels::sum_of_squares(x, stream));
  }
  omp_set_num_threads(before);
  for (std::size_t i = 1; i < sums.size(); ++i) {
    CHECK(test::same_bytes(sums[i], sums[0]));
    CHECK(squares[i] == squares[0]);
  }
}

TEST_CASE("cast goes through bfloat16 and back within its epsilon") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({1000}, DType::kFloat32, stream, 3);
  Tensor half = Tensor::empty({1000}, DType::kBFloat16, stream);
  Tensor back = Tensor::empty({1000}, DType::kFloat32, stream);
  kernels::cast(x, half, stream);
  kernels::cast(half, back, stream);
  HEW_CHECK_CLOSE(back, x, 0x1p-8);
}

TEST_CASE("scale_by multiplies by a number that lies in a tensor") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({1009}, DType::kFloat64, stream, 3);
  Tensor by_tensor = x.clone();
  Tensor by_number = x.clone();
  kernels::scale_by(Tensor::from(std::vector<double>{-0.7}, {}, stream), by_tensor, stream);
  kernels::scale(-0.7, by_number, stream);
  CHECK(test::same_bytes(by_tensor, by_number));
  CHECK_THROWS_AS(kernels::scale_by(Tensor::zeros({1}, DType::kFloat64, stream), by_tensor, stream),
                  ShapeError);
  CHECK_THROWS_AS(kernels::scale_by(Tensor::zeros({}, DType::kFloat32, stream), by_tensor, stream),
                  DtypeError);
}

TEST_CASE("scaled_sum adds any number of terms, in place too") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t n : {1, 3, 4, 1009, 100003}) {
    for (const int count : {1, 2, 3, kernels::kMaxTerms}) {
      std::vector<Tensor> terms;
      std::vector<ConstView> views;
      Tensor expected = Tensor::zeros({n}, DType::kFloat64, stream);
      for (int k = 0; k < count; ++k) {
        terms.push_back(test::random_tensor({n}, DType::kFloat64, stream, 10 + k));
        kernels::add(expected, terms.back(), expected, stream);
      }
      for (const Tensor& term : terms) views.emplace_back(term);
      kernels::scale(0.25, expected, stream);
      kernels::scaled_sum(views, 0.25, terms[static_cast<std::size_t>(count / 2)], stream);
      CHECK(test::same_bytes(terms[static_cast<std::size_t>(count / 2)], expected));
    }
  }
  const Tensor one = Tensor::zeros({3}, DType::kFloat32, stream);
  Tensor y = Tensor::zeros({3}, DType::kFloat32, stream);
  CHECK_THROWS_AS(kernels::scaled_sum({}, 1, y, stream), ShapeError);
  const std::vector<ConstView> many(kernels::kMaxTerms + 1, one);
  CHECK_THROWS_AS(kernels::scaled_sum(many, 1, y, stream), ShapeError);
  const std::vector<ConstView> other{one, Tensor::zeros({3}, DType::kFloat64, stream)};
  CHECK_THROWS_AS(kernels::scaled_sum(other, 1, y, stream), DtypeError);
}

TEST_CASE("elementwise kernels refuse what does not fit") {
  const Stream& stream = test::test_stream();
  Tensor a = Tensor::zeros({2, 3}, DType::kFloat32, stream);
  Tensor b = Tensor::zeros({3, 2}, DType::kFloat32, stream);
  CHECK_THROWS_AS(kernels::add(a, b, a, stream), ShapeError);
  CHECK_THROWS_AS(kernels::add(a, Tensor::zeros({2, 3}, DType::kFloat64, stream), a, stream),
                  DtypeError);
  CHECK_THROWS_AS(kernels::scale(2, Tensor::zeros({2}, DType::kInt32, stream), stream), DtypeError);
}

}  // namespace hew
