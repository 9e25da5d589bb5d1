#include <doctest/doctest.h>

#include "autograd/gradcheck.h"
#include "autograd/variable.h"
#include "core/error.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace hew {
namespace {

ag::Variable product(const ag::Variable& a, const ag::Variable& b) {
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.stream());
  kernels::multiply(a.value(), b.value(), y, a.stream());
  return ag::record("product", y, {a, b},
                    [x = a.value(), w = b.value()](const Tensor& g, const std::vector<bool>&) {
                      Tensor da = Tensor::empty(g.shape(), g.dtype(), g.stream());
                      Tensor db = Tensor::empty(g.shape(), g.dtype(), g.stream());
                      kernels::multiply(g, w, da, g.stream());
                      kernels::multiply(g, x, db, g.stream());
                      return std::vector<Tensor>{da, db};
                    });
}

ag::Variable same(const ag::Variable& a) {
  return ag::record("same", a.value(), {a}, [](const Tensor& g, const std::vector<bool>&) {
    return std::vector<Tensor>{g};
  });
}

}  // namespace

TEST_CASE("gradients of a graph with shared inputs agree with central differences") {
  const Stream cpu = make_cpu_stream();
  const auto result = ag::gradcheck(
      [](const std::vector<ag::Variable>& in) {
        const ag::Variable square = product(in[0], in[0]);
        return product(product(square, same(square)), product(in[1], same(in[0])));
      },
      {test::random_tensor({3, 5}, DType::kFloat64, cpu, 1),
       test::random_tensor({3, 5}, DType::kFloat64, cpu, 2)});
  CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
}

TEST_CASE("gradcheck finds a wrong rule and a NaN") {
  const Stream cpu = make_cpu_stream();
  const std::vector<Tensor> inputs{test::random_tensor({4}, DType::kFloat64, cpu, 1)};
  auto planted = [&](double factor) {
    return ag::gradcheck(
        [factor](const std::vector<ag::Variable>& in) {
          return ag::record("planted", in[0].value(), {in[0]},
                            [factor](const Tensor& g, const std::vector<bool>&) {
                              Tensor d = g.clone();
                              kernels::scale(factor, d, g.stream());
                              return std::vector<Tensor>{d};
                            });
        },
        inputs);
  };
  CHECK(planted(1.0).max_relative_error <= 1e-9);
  CHECK_FALSE(planted(1.00001).max_relative_error <= 1e-6);
  CHECK_FALSE(planted(NAN).max_relative_error <= 1e-6);
}

TEST_CASE("leaf gradients accumulate over sweeps and are never aliased") {
  const Stream cpu = make_cpu_stream();
  ag::Variable a(test::random_tensor({3}, DType::kFloat64, cpu, 1), true);
  ag::Variable b(test::random_tensor({3}, DType::kFloat64, cpu, 2), true);
  auto sum = [](const ag::Variable& x, const ag::Variable& y) {
    Tensor s = Tensor::empty(x.shape(), x.dtype(), x.stream());
    kernels::add(x.value(), y.value(), s, x.stream());
    return ag::record("sum", s, {x, y}, [](const Tensor& g, const std::vector<bool>&) {
      return std::vector<Tensor>{g, g};
    });
  };
  ag::backward(sum(a, b));
  ag::backward(sum(a, sum(a, b)));
  CHECK(a.grad().to_vector<double>() == std::vector<double>{3, 3, 3});
  CHECK(b.grad().to_vector<double>() == std::vector<double>{2, 2, 2});
}

TEST_CASE("the engine sums a broadcast gradient and refuses one that does not fit") {
  const Stream cpu = make_cpu_stream();
  ag::Variable row(test::random_tensor({3}, DType::kFloat64, cpu, 1), true);
  auto gives = [&](const Shape& shape, DType dtype) {
    return ag::record("gives", Tensor::zeros({}, DType::kFloat64, cpu), {row},
                      [=](const Tensor&, const std::vector<bool>&) {
                        Tensor g = Tensor::empty(shape, dtype, cpu);
                        kernels::fill(1, g, cpu);
                        return std::vector<Tensor>{g};
                      });
  };
  ag::backward(gives({5, 2, 3}, DType::kFloat64));
  CHECK(row.grad().to_vector<double>() == std::vector<double>{10, 10, 10});
  CHECK_THROWS_AS(ag::backward(gives({2}, DType::kFloat64)), ShapeError);
  CHECK_THROWS_AS(ag::backward(gives({3}, DType::kFloat32)), DtypeError);
}

TEST_CASE("a tape is swept once") {
  const Stream cpu = make_cpu_stream();
  ag::Variable a(test::random_tensor({3}, DType::kFloat64, cpu, 1), true);
  const ag::Variable y = same(a);
  ag::backward(y);
  CHECK_THROWS_AS(ag::backward(y), Error);
  CHECK_THROWS_AS(ag::backward(a.detach()), Error);
}

TEST_CASE("a chain of 200,000 nodes neither overflows on backward nor on tear-down") {
  const Stream cpu = make_cpu_stream();
  ag::Variable a(Tensor::zeros({1}, DType::kFloat64, cpu), true);
  {
    ag::Variable y = a;
    for (int i = 0; i < 200000; ++i) y = same(y);
    ag::backward(y);
  }
  CHECK(a.grad().to_vector<double>() == std::vector<double>{1});
}

}  // namespace hew
