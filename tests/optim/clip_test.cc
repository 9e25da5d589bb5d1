#include "optim/clip.h"

#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>
#include <limits>

#include "core/memory.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

ag::Parameter with_gradient(const std::string& name, const Tensor& gradient) {
  ag::Parameter p{
      .name = name,
      .var = ag::Variable(Tensor::zeros(gradient.shape(), gradient.dtype(), gradient.stream()),
                          /*requires_grad=*/true)};
  p.var.grad() = gradient;
  return p;
}

double scale_of(const optim::GradientNorm& norm) {
  const ConstView scale = norm.scale();
  double value = 0;
  copy_memory(&value, Device{}, scale.data, scale.device, sizeof(value), test::test_stream());
  return value;
}

}  // namespace

TEST_CASE("the global norm and the factor that clips it") {
  const Stream& stream = test::test_stream();
  ag::Parameter a = with_gradient("a", Tensor::from(std::vector<float>{3, 0}, {2}, stream));
  ag::Parameter b = with_gradient("b", Tensor::from(std::vector<double>{0, -4, 12}, {3}, stream));
  ag::Parameter none{.name = "none", .var = ag::Variable(a.value(), /*requires_grad=*/true)};
  const std::vector<ag::Parameter*> all{&a, &none, &b};
  const optim::GradientNorm clipped = optim::gradient_norm(all, 2);
  CHECK(clipped.norm() == 13);
  CHECK(scale_of(clipped) == 2 / (13 + 1e-6));
  CHECK(clipped.bad() == nullptr);
  CHECK(scale_of(optim::gradient_norm(all, 14)) == 1);
  CHECK(scale_of(optim::gradient_norm(all, 0)) == 1);
  CHECK(optim::gradient_norm({}, 1).norm() == 0);
  CHECK(scale_of(optim::gradient_norm({}, 1)) == 1);
}

TEST_CASE("the norm does not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  ag::Parameter a = with_gradient("a", test::random_tensor({100003}, DType::kFloat32, stream, 1));
  const std::vector<ag::Parameter*> all{&a};
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const double one = optim::gradient_norm(all, 1).norm();
  omp_set_num_threads(4);
  const double four = optim::gradient_norm(all, 1).norm();
  omp_set_num_threads(threads);
  CHECK(one == four);
}

TEST_CASE("the first parameter with a NaN or an infinity is named") {
  const Stream& stream = test::test_stream();
  for (const float planted :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor zeros = Tensor::zeros({5}, DType::kFloat32, stream);
    ag::Parameter a = with_gradient("a", zeros);
    ag::Parameter b = with_gradient("b", test::with_element(zeros, 4, planted));
    ag::Parameter c = with_gradient("c", test::with_element(zeros, 0, planted));
    const std::vector<ag::Parameter*> all{&a, &b, &c};
    const optim::GradientNorm found = optim::gradient_norm(all, 1);
    CHECK(found.bad() == &b);
    CHECK_FALSE(std::isfinite(found.norm()));
    CHECK(std::isnan(scale_of(found)));
    CHECK(std::isnan(scale_of(optim::gradient_norm(all, 0))));
  }
}

}  // namespace hew
