#include "autograd/dropout.h"

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

test::Function dropout(const kernels::DropoutOptions& options) {
  return [options](const std::vector<ag::Variable>& in) { return ag::dropout(in[0], options); };
}

}  // namespace

TEST_CASE_TEMPLATE("dropout draws each element's bit from its global index", T, float, double) {
  const Stream& stream = test::test_stream();
  for (const std::uint64_t first : {0ULL, 1ULL, 1023ULL, (1ULL << 34U) + 3}) {
    for (const std::int64_t n : {1, 7, 4099}) {
      const kernels::DropoutOptions options{
          .p = 0.3, .key = 5, .stream = 6, .first_element = first};
      const Tensor x = test::random_tensor({n}, kDTypeOf<T>, stream, 1);
      const std::vector<T> y = ag::dropout(ag::Variable(x), options).value().to_vector<T>();
      const std::vector<T> whole = x.to_vector<T>();
      const T kept = T(1) / (T(1) - T(0.3));
      for (std::size_t i = 0; i < y.size(); ++i) {
        const bool keep = uniform(5, 6, first + i) >= 0.3F;
        REQUIRE(y[i] == (keep ? whole[i] * kept : T(0)));
      }
    }
  }
}

TEST_CASE("dropout of a slice is the slice of the dropout") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({6, 701}, DType::kFloat32, stream, 1);
  const Tensor whole = ag::dropout(ag::Variable(x), {.p = 0.5, .key = 1, .stream = 2}).value();
  const Tensor part = ag::dropout(ag::Variable(x.rows(2, 3)),
                                  {.p = 0.5, .key = 1, .stream = 2, .first_element = 2 * 701})
                          .value();
  CHECK(test::same_bytes(part, whole.rows(2, 3)));
  const Tensor other = ag::dropout(ag::Variable(x), {.p = 0.5, .key = 1, .stream = 3}).value();
  CHECK_FALSE(test::same_bytes(other, whole));
}

TEST_CASE("dropout drops a fraction p and keeps the mean") {
  const Stream& stream = test::test_stream();
  constexpr std::int64_t kCount = 200000;
  const Tensor ones =
      Tensor::from(std::vector<double>(static_cast<std::size_t>(kCount), 1.0), {kCount}, stream);
  for (const double p : {0.1, 0.5, 0.9}) {
    double mean = 0;
    for (const double value :
         ag::dropout(ag::Variable(ones), {.p = p, .key = 3}).value().to_vector<double>()) {
      mean += value / static_cast<double>(kCount);
    }
    // Five standard errors of a mean of Bernoulli draws.
    CHECK(std::abs(mean - 1) <= 5 * std::sqrt(p / (1 - p) / static_cast<double>(kCount)));
  }
}

TEST_CASE("dropout gradients agree with central differences, and p = 0 is the identity") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t n : {1, 9, 31}) {
    const Tensor x = test::random_tensor({3, n}, DType::kFloat64, stream, 1);
    const auto result =
        test::gradcheck(dropout({.p = 0.4, .key = 1, .stream = 2, .first_element = 3}), {x});
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
    CHECK(test::same_bytes(ag::dropout(ag::Variable(x), {.p = 0}).value(), x));
  }
}

TEST_CASE("dropout does not depend on the number of threads, and refuses a bad p") {
  const Stream& stream = test::test_stream();
  const Tensor x = test::random_tensor({83, 131}, DType::kFloat32, stream, 1);
  CHECK(test::independent_of_threads(dropout({.p = 0.2, .key = 1, .stream = 2}), {x}));
  for (const double p : {-0.1, 1.0, 1.5, double{NAN}}) {
    CHECK_THROWS_AS(ag::dropout(ag::Variable(x), {.p = p}), ConfigError);
  }
}

}  // namespace hew
