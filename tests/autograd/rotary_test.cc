#include "autograd/rotary.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "kernels/rotary.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

constexpr double kTheta = 10000;

template <class T>
Tensor closed_form(const Tensor& x, std::int64_t offset) {
  const std::int64_t time = x.size(1);
  const std::int64_t heads = x.size(2);
  const std::int64_t width = x.size(3);
  const std::vector<T> values = x.to_vector<T>();
  auto at = [&values](std::int64_t i) { return double(values[static_cast<std::size_t>(i)]); };
  std::vector<T> out;
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const std::int64_t d = i % width;
    const std::int64_t t = i / (width * heads) % time;
    const std::int64_t pair = d % (width / 2);
    const double angle = double(offset + t) / std::pow(kTheta, 2 * double(pair) / double(width));
    // "Rotate half": (−second half, first half).
    const double rotated = d < width / 2 ? -at(i + width / 2) : at(i - width / 2);
    out.push_back(T(at(i) * std::cos(angle) + rotated * std::sin(angle)));
  }
  return Tensor::from(out, x.shape(), x.stream());
}

}  // namespace

TEST_CASE_TEMPLATE("rotary matches rotate-half at any offset", T, float, double) {
  const Stream& stream = test::test_stream();
  // Rounded sine, cosine and two products of values of a few units; and an angle of up to a
  // thousand radians, in double for both types.
  const double tolerance = 16 * double(std::numeric_limits<T>::epsilon()) +
                           2048 * std::numeric_limits<double>::epsilon();
  for (const std::int64_t width : {2, 6, 64}) {
    for (const std::int64_t offset : {0, 1, 1021}) {
      const Tensor x = test::random_tensor({2, 5, 3, width}, kDTypeOf<T>, stream, 1);
      HEW_CHECK_CLOSE(ag::rotary(ag::Variable(x), kTheta, offset).value(),
                      closed_form<T>(x, offset), tolerance, tolerance);
    }
  }
}

TEST_CASE("rotary gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const Shape& shape : {Shape{1, 1, 1, 2}, Shape{2, 3, 1, 6}, Shape{1, 7, 3, 10}}) {
    const auto result = test::gradcheck(
        [](const std::vector<ag::Variable>& in) { return ag::rotary(in[0], kTheta, 3); },
        {test::random_tensor(shape, DType::kFloat64, stream, 2)});
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  }
}

TEST_CASE("a sequence rotated in two pieces is the sequence rotated at once, also in place") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({1, 11, 2, 8}, DType::kFloat32, stream, 3);
  const Tensor whole = ag::rotary(ag::Variable(x), kTheta, 0).value();
  Tensor tail = x.reshape({11, 16}).rows(7, 4).reshape({1, 4, 2, 8}).clone();
  kernels::rotary({.x = tail, .theta = kTheta, .offset = 7, .inverse = false, .y = tail}, stream);
  CHECK(test::same_bytes(tail, whole.reshape({11, 16}).rows(7, 4).reshape({1, 4, 2, 8})));
}

TEST_CASE("rotary does not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  CHECK(test::independent_of_threads(
      [](const std::vector<ag::Variable>& in) { return ag::rotary(in[0], kTheta, 0); },
      {test::random_tensor({3, 53, 5, 22}, DType::kFloat32, stream, 1)}));
}

TEST_CASE("rotary refuses odd widths, other ranks and bad settings") {
  const Stream& stream = test::test_stream();
  auto zeros = [&](const Shape& shape) {
    return ag::Variable(Tensor::zeros(shape, DType::kFloat32, stream));
  };
  CHECK_THROWS_WITH_AS(ag::rotary(zeros({1, 2, 3, 5}), kTheta, 0),
                       "[rotary] x has shape [1, 2, 3, 5], expected [B, T, H, D] with an even D",
                       ShapeError);
  CHECK_THROWS_AS(ag::rotary(zeros({2, 3, 4}), kTheta, 0), ShapeError);
  CHECK_THROWS_AS(ag::rotary(zeros({1, 2, 3, 4}), 0, 0), ConfigError);
  CHECK_THROWS_AS(ag::rotary(zeros({1, 2, 3, 4}), kTheta, -1), ConfigError);
}

}  // namespace hew
