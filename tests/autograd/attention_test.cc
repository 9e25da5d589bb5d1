#include "autograd/attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "tests/support/attention_problem.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using Case = test::AttentionCase;

std::vector<Tensor> random_inputs(const Case& c, DType dtype, const Stream& stream) {
  return {test::random_tensor(c.q_shape(), dtype, stream, 1),
          test::random_tensor(c.k_shape(), dtype, stream, 2),
          test::random_tensor(c.k_shape(), dtype, stream, 3)};
}

test::Function attention(const Case& c) {
  return [c](const std::vector<ag::Variable>& in) {
    return ag::attention(in[0], in[1], in[2], c.options());
  };
}

// One query at a time, in double.
template <class T>
Tensor closed_form(const Case& c, const std::vector<Tensor>& in) {
  const std::vector<Tensor> host{test::on_cpu(in[0]), test::on_cpu(in[1]), test::on_cpu(in[2])};
  auto at = [&](const Tensor& x, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t d) {
    return double(x.data<T>()[((b * x.size(1) + t) * x.size(2) + h) * c.width + d]);
  };
  const double scale = c.scale == 0 ? 1 / std::sqrt(double(c.width)) : c.scale;
  std::vector<T> out;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t i = 0; i < c.queries; ++i) {
      for (std::int64_t h = 0; h < c.heads; ++h) {
        const std::int64_t kv = h / (c.heads / c.key_heads);
        const std::int64_t visible = c.causal ? i + c.keys - c.queries + 1 : c.keys;
        std::vector<double> weights;
        double total = 0;
        for (std::int64_t j = 0; j < visible; ++j) {
          double s = 0;
          for (std::int64_t d = 0; d < c.width; ++d)
            s += at(host[0], b, i, h, d) * at(host[1], b, j, kv, d);
          weights.push_back(std::exp(scale * s));
          total += weights.back();
        }
        for (std::int64_t d = 0; d < c.width; ++d) {
          double y = 0;
          for (std::int64_t j = 0; j < visible; ++j) {
            y += weights[static_cast<std::size_t>(j)] / total * at(host[2], b, j, kv, d);
          }
          out.push_back(T(y));
        }
      }
    }
  }
  return Tensor::from(out, in[0].shape(), in[0].stream());
}

}  // namespace

TEST_CASE_TEMPLATE("attention matches its closed form", T, float, double) {
  const Stream& stream = test::test_stream();
  for (const Case& c : {Case{}, Case{2, 7, 7, 4, 4, 3, true}, Case{2, 7, 7, 4, 2, 8, false},
                        Case{1, 131, 131, 2, 1, 16, true}, Case{1, 3, 97, 4, 1, 5, true},
                        Case{1, 67, 5, 2, 1, 5, false}, Case{1, 1, 129, 4, 2, 64, true},
                        Case{2, 65, 80, 1, 1, 64, true, 0.3}}) {
    CAPTURE(c.queries);
    CAPTURE(c.keys);
    // Scores of up to √D·4 carry D rounding errors into the exponent; values are of a few units.
    const double tolerance = 64 * double(std::numeric_limits<T>::epsilon());
    const std::vector<Tensor> in = random_inputs(c, kDTypeOf<T>, stream);
    HEW_CHECK_CLOSE(test::value_and_gradients(attention(c), in)[0], closed_form<T>(c, in),
                    tolerance, tolerance);
  }
}

TEST_CASE("attention gradients agree with central differences") {
  const Stream& stream = test::test_stream();
  for (const bool causal : {true, false}) {
    for (const std::int64_t group : {1, 2, 4}) {
      for (const Case& c :
           {Case{1, 1, 2, 4, 4 / group, 1, causal}, Case{2, 5, 5, 4, 4 / group, 3, causal},
            Case{1, 3, 7, 4, 4 / group, 2, causal, 0.7}}) {
        CAPTURE(causal);
        CAPTURE(group);
        CAPTURE(c.keys);
        const auto result =
            test::gradcheck(attention(c), random_inputs(c, DType::kFloat64, stream));
        CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
      }
    }
  }
}

TEST_CASE("attention gradients hold across blocks of queries") {
  const Stream& stream = test::test_stream();
  for (const Case& c : {Case{1, 67, 67, 2, 1, 2, true}, Case{1, 65, 66, 1, 1, 1, true}}) {
    const auto result = test::gradcheck(attention(c), random_inputs(c, DType::kFloat64, stream));
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  }
}

TEST_CASE("attention to a single key gives its value, and no gradient to query or key") {
  const Stream& stream = test::test_stream();
  const Case c{1, 1, 1, 2, 1, 3, true};
  const std::vector<Tensor> in = random_inputs(c, DType::kFloat64, stream);
  const auto out = test::value_and_gradients(attention(c), in);
  for (const std::int64_t h : {0, 1}) {
    HEW_CHECK_CLOSE(out[0].reshape({2, 3}).rows(h, 1), in[2].reshape({1, 3}), 1e-15);
  }
  HEW_CHECK_CLOSE(out[1], Tensor::zeros(in[0].shape(), DType::kFloat64, stream), 0, 1e-14);
  HEW_CHECK_CLOSE(out[2], Tensor::zeros(in[1].shape(), DType::kFloat64, stream), 0, 1e-14);
}

TEST_CASE("the last query alone, with all keys, gets the whole sequence's last row") {
  const Stream& stream = test::test_stream();
  const Case whole{1, 37, 37, 2, 1, 8, true};
  const std::vector<Tensor> in = random_inputs(whole, DType::kFloat64, stream);
  const Tensor y = test::value_and_gradients(attention(whole), in)[0].reshape({37, 16});
  const Tensor last = in[0].reshape({37, 16}).rows(36, 1).reshape({1, 1, 2, 8});
  const Case step{1, 1, 37, 2, 1, 8, true};
  const Tensor z = test::value_and_gradients(attention(step), {last, in[1], in[2]})[0];
  HEW_CHECK_CLOSE(z.reshape({1, 16}), y.rows(36, 1), 1e-14, 1e-14);
}

TEST_CASE("a causal query is blind to later keys, even to NaN") {
  const Stream& stream = test::test_stream();
  const Case c{1, 70, 70, 1, 1, 4, true};
  std::vector<Tensor> in = random_inputs(c, DType::kFloat32, stream);
  const Tensor before = test::value_and_gradients(attention(c), in)[0].reshape({70, 4}).clone();
  in[1] = test::with_element(in[1], 69 * 4 + 1, NAN);
  const Tensor after = test::value_and_gradients(attention(c), in)[0].reshape({70, 4});
  CHECK(test::same_bytes(after.rows(0, 69), before.rows(0, 69)));
  for (const float y : after.rows(69, 1).to_vector<float>()) CHECK(std::isnan(y));
}

TEST_CASE("attention survives scores far beyond the range of exp") {
  const Stream& stream = test::test_stream();
  const Case c{1, 19, 19, 1, 1, 8, true, 1e4};
  const auto out =
      test::value_and_gradients(attention(c), random_inputs(c, DType::kFloat32, stream));
  for (const Tensor& t : out) {
    for (const float value : t.to_vector<float>()) REQUIRE(std::isfinite(value));
  }
}

TEST_CASE("attention does not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  for (const Case& c : {Case{1, 131, 131, 1, 1, 32, true}, Case{3, 131, 139, 4, 2, 16, true},
                        Case{1, 200, 400, 1, 1, 64, false}, Case{1, 1, 500, 4, 2, 64, true}}) {
    CHECK(test::independent_of_threads(attention(c), random_inputs(c, DType::kFloat32, stream)));
  }
}

TEST_CASE("attention refuses what does not fit") {
  const Stream& stream = test::test_stream();
  auto zeros = [&](const Shape& shape) {
    return ag::Variable(Tensor::zeros(shape, DType::kFloat32, stream));
  };
  const ag::Variable q = zeros({2, 5, 4, 8});
  const ag::Variable k = zeros({2, 5, 2, 8});
  CHECK_THROWS_WITH_AS(ag::attention(q, zeros({2, 5, 3, 8}), zeros({2, 5, 3, 8}), {}),
                       "[attention] 4 query heads are no multiple of 3 key heads", ShapeError);
  CHECK_THROWS_AS(ag::attention(q, k, zeros({2, 6, 2, 8}), {}), ShapeError);
  CHECK_THROWS_AS(ag::attention(zeros({2, 6, 4, 8}), k, k, {.causal = true}), ShapeError);
  CHECK_THROWS_AS(ag::attention(q, zeros({2, 5, 2, 7}), zeros({2, 5, 2, 7}), {}), ShapeError);
  CHECK_THROWS_AS(ag::attention(zeros({10, 4, 8}), k, k, {}), ShapeError);
  CHECK_THROWS_AS(ag::attention(q, k, k, {.scale = -1}), ConfigError);
}

}  // namespace hew
