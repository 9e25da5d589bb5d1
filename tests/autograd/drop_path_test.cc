#include "autograd/drop_path.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

test::Function drop_path(const kernels::DropPathOptions& options) {
  return [options](const std::vector<ag::Variable>& in) { return ag::drop_path(in[0], options); };
}

}  // namespace

TEST_CASE_TEMPLATE("a sample is dropped, or grows, as a whole, by its global index", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  for (const std::uint64_t first : {0ULL, 3ULL, (1ULL << 34U) + 1}) {
    for (const std::int64_t length : {1, 7, 1031, 4096}) {
      const kernels::DropPathOptions options{
          .p = 0.3, .key = 5, .stream = 6, .first_sample = first};
      const Tensor x = test::random_tensor({13, length}, kDTypeOf<T>, stream, 1);
      const std::vector<T> y = ag::drop_path(ag::Variable(x), options).value().to_vector<T>();
      const std::vector<T> whole = x.to_vector<T>();
      const T factor = T(1) / (T(1) - T(0.3));
      for (std::size_t i = 0; i < y.size(); ++i) {
        const bool keep = uniform(5, 6, first + i / static_cast<std::size_t>(length)) >= 0.3F;
        REQUIRE(y[i] == (keep ? factor * whole[i] : T(0)));
      }
    }
  }
}

TEST_CASE("stochastic depth of a slice is the slice of the whole") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({6, 7, 11}, DType::kFloat32, stream, 1);
  const Tensor whole = ag::drop_path(ag::Variable(x), {.p = 0.5, .key = 1, .stream = 2}).value();
  const Tensor part = ag::drop_path(ag::Variable(x.rows(2, 3)),
                                    {.p = 0.5, .key = 1, .stream = 2, .first_sample = 2})
                          .value();
  CHECK(test::same_bytes(part, whole.rows(2, 3)));
}

TEST_CASE("stochastic depth drops a fraction p and keeps the mean") {
  constexpr std::int64_t kCount = 200000;
  const Tensor ones = Tensor::from(std::vector<double>(static_cast<std::size_t>(kCount), 1.0),
                                   {kCount, 1}, test::test_stream());
  for (const double p : {0.1, 0.5, 0.9}) {
    double mean = 0;
    for (const double value :
         ag::drop_path(ag::Variable(ones), {.p = p, .key = 3}).value().to_vector<double>()) {
      mean += value / static_cast<double>(kCount);
    }
    // Five standard errors of a mean of Bernoulli draws.
    CHECK(std::abs(mean - 1) <= 5 * std::sqrt(p / (1 - p) / static_cast<double>(kCount)));
  }
}

TEST_CASE("gradients of stochastic depth agree with central differences; p = 0 is the identity") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({9, 3, 2}, DType::kFloat64, stream, 1);
  const auto result =
      test::gradcheck(drop_path({.p = 0.4, .key = 1, .stream = 2, .first_sample = 3}), {x});
  CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  CHECK(test::same_bytes(ag::drop_path(ag::Variable(x), {.p = 0}).value(), x));
  CHECK(test::independent_of_threads(drop_path({.p = 0.2, .key = 1, .stream = 2}), {x}));
  for (const double p : {-0.1, 1.0, double{NAN}}) {
    CHECK_THROWS_AS(ag::drop_path(ag::Variable(x), {.p = p}), ConfigError);
  }
}

}  // namespace hew
