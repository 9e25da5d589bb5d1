#include "autograd/norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr double kEps = 1e-5;

ag::Variable layer_norm(const std::vector<ag::Variable>& in) {
  return ag::layer_norm(in[0], in[1], in.size() > 2 ? in[2] : ag::Variable(), kEps);
}

ag::Variable rms_norm(const std::vector<ag::Variable>& in) {
  return ag::rms_norm(in[0], in[1], kEps);
}

// [rows, width] values in float64, `centred` for LayerNorm.
template <class T>
std::vector<T> closed_form(const Tensor& x, const Tensor& weight, const Tensor& bias,
                           bool centred) {
  const std::int64_t width = weight.numel();
  const std::vector<T> values = x.to_vector<T>();
  const std::vector<T> scales = weight.to_vector<T>();
  const std::vector<T> shifts =
      bias.defined() ? bias.to_vector<T>() : std::vector<T>(scales.size(), T(0));
  std::vector<T> out;
  for (std::int64_t row = 0; row < x.numel() / width; ++row) {
    const T* px = values.data() + row * width;
    double mean = 0;
    for (std::int64_t c = 0; c < width; ++c) mean += centred ? double(px[c]) / double(width) : 0;
    double variance = 0;
    for (std::int64_t c = 0; c < width; ++c) variance += std::pow(double(px[c]) - mean, 2);
    const double rstd = 1 / std::sqrt(variance / double(width) + kEps);
    for (std::int64_t c = 0; c < width; ++c) {
      const auto at = static_cast<std::size_t>(c);
      out.push_back(T((double(px[c]) - mean) * rstd * double(scales[at]) + double(shifts[at])));
    }
  }
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("norms match their closed forms", T, float, double) {
  const Stream& stream = test::test_stream();
  constexpr DType kType = kDTypeOf<T>;
  for (const std::int64_t width : {1, 7, 64, 1009}) {
    CAPTURE(width);
    // A sum of C terms in vector lanes: √C rounding errors, on values of a few units.
    const double tolerance =
        8 * std::sqrt(double(width)) * double(std::numeric_limits<T>::epsilon());
    const Shape shape{5, 3, width};
    const Tensor x = test::random_tensor(shape, kType, stream, 1);
    const Tensor w = test::random_tensor({width}, kType, stream, 2);
    const Tensor b = test::random_tensor({width}, kType, stream, 3);
    const ag::Variable vx(x);
    const ag::Variable vw(w);
    HEW_CHECK_CLOSE(layer_norm({vx, vw, ag::Variable(b)}).value(),
                    Tensor::from(closed_form<T>(x, w, b, true), shape, stream), tolerance,
                    tolerance);
    HEW_CHECK_CLOSE(layer_norm({vx, vw}).value(),
                    Tensor::from(closed_form<T>(x, w, Tensor(), true), shape, stream), tolerance,
                    tolerance);
    HEW_CHECK_CLOSE(rms_norm({vx, vw}).value(),
                    Tensor::from(closed_form<T>(x, w, Tensor(), false), shape, stream), tolerance,
                    tolerance);
  }
}

TEST_CASE("norm gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{2}, test::cut(37, 5)}) {
    for (const std::int64_t width : {2, 9, 17}) {
      const Tensor x = test::random_tensor({rows, width}, DType::kFloat64, stream, 4);
      const Tensor w = test::random_tensor({width}, DType::kFloat64, stream, 5);
      const Tensor b = test::random_tensor({width}, DType::kFloat64, stream, 6);
      CAPTURE(rows);
      CAPTURE(width);
      // Two values a row are ±1 after centring whatever they are: their gradient is rounding.
      if (width > 2) {
        const auto biased = test::gradcheck(layer_norm, {x, w, b});
        CHECK_MESSAGE(biased.max_relative_error <= 1e-6, biased.worst);
        const auto unbiased = test::gradcheck(layer_norm, {x, w});
        CHECK_MESSAGE(unbiased.max_relative_error <= 1e-6, unbiased.worst);
      }
      const auto rms = test::gradcheck(rms_norm, {x, w});
      CHECK_MESSAGE(rms.max_relative_error <= 1e-6, rms.worst);
    }
  }
}

TEST_CASE("layer norm of one channel is its bias, and passes no gradient to x") {
  const Stream& stream = test::test_stream();
  const auto out = test::value_and_gradients(
      layer_norm, {test::random_tensor({3, 1}, DType::kFloat64, stream, 1),
                   test::random_tensor({1}, DType::kFloat64, stream, 2),
                   Tensor::from(std::vector<double>{0.25}, {1}, stream)});
  CHECK(out[0].to_vector<double>() == std::vector<double>(3, 0.25));
  // What is left is the rounding of g − mean(g), times 1/√eps.
  HEW_CHECK_CLOSE(out[1], Tensor::zeros({3, 1}, DType::kFloat64, stream), 0, 1e-13);
}

TEST_CASE("norms do not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t width : {67, 128}) {
    const Tensor x = test::random_tensor({331, width}, DType::kFloat32, stream, 1);
    const Tensor w = test::random_tensor({width}, DType::kFloat32, stream, 2);
    const Tensor b = test::random_tensor({width}, DType::kFloat32, stream, 3);
    CHECK(test::independent_of_threads(layer_norm, {x, w, b}));
    CHECK(test::independent_of_threads(rms_norm, {x, w}));
  }
}

TEST_CASE("norms refuse what does not fit, and pass NaN on") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({4, 16}, DType::kFloat32, stream, 1);
  const ag::Variable w8(test::random_tensor({8}, DType::kFloat32, stream, 2));
  const ag::Variable w16(test::random_tensor({16}, DType::kFloat32, stream, 2));
  CHECK_THROWS_WITH_AS(layer_norm({ag::Variable(x), w8}),
                       "[layer_norm] weight has shape [8], expected [16]", ShapeError);
  CHECK_THROWS_AS(rms_norm({ag::Variable(x), w8}), ShapeError);
  CHECK_THROWS_AS(layer_norm({ag::Variable(x), w16, w8}), ShapeError);
  const ag::Variable wide(test::random_tensor({16}, DType::kFloat64, stream, 2));
  CHECK_THROWS_AS(layer_norm({ag::Variable(x), wide}), DtypeError);
  const ag::Variable bad(test::with_element(x, 17, NAN));
  CHECK(std::isnan(layer_norm({bad, w16}).value().to_vector<float>()[16]));
  CHECK(std::isnan(rms_norm({bad, w16}).value().to_vector<float>()[31]));
}

}  // namespace hew
