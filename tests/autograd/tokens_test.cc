#include "autograd/tokens.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "kernels/patches.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

Tensor random(const Shape& shape, std::uint64_t seed) {
  return test::random_tensor(shape, DType::kFloat64, test::test_stream(), seed);
}

ag::Variable joined(const std::vector<ag::Variable>& in) {
  return in.size() == 3 ? ag::join_tokens(in[0], in[1], in[2])
                        : ag::join_tokens(in[0], ag::Variable(), in[1]);
}

}  // namespace

TEST_CASE_TEMPLATE("patches are cut as a strided convolution reads them", T, float, double) {
  const Stream& stream = test::test_stream();
  struct Case {
    std::int64_t batch, channels, height, width, patch;
  };
  for (const Case& c : {Case{1, 1, 1, 1, 1},
                        {2, 3, 6, 9, 3},
                        {3, 1, 28, 28, 4},
                        {1, 3, 32, 16, 16},
                        {2, 2, 8, 4, 2},
                        {5, 3, 14, 7, 7}}) {
    CAPTURE(c.patch);
    const Tensor images =
        test::random_tensor({c.batch, c.channels, c.height, c.width}, DType::kFloat32, stream, 1);
    const std::int64_t down = c.height / c.patch;
    const std::int64_t across = c.width / c.patch;
    const std::int64_t length = c.channels * c.patch * c.patch;
    Tensor y = test::poisoned({c.batch * down * across, length}, kDTypeOf<T>, stream);
    kernels::patches({.images = images, .size = c.patch, .y = y}, stream);
    const std::vector<float> in = images.to_vector<float>();
    const std::vector<T> out = y.to_vector<T>();
    for (std::int64_t at = 0; at < images.numel(); ++at) {
      const std::int64_t column = at % c.width;
      const std::int64_t row = at / c.width % c.height;
      const std::int64_t channel = at / (c.width * c.height) % c.channels;
      const std::int64_t image = at / (c.width * c.height * c.channels);
      const std::int64_t patch = (image * down + row / c.patch) * across + column / c.patch;
      const std::int64_t within = (channel * c.patch + row % c.patch) * c.patch + column % c.patch;
      REQUIRE(out[static_cast<std::size_t>(patch * length + within)] ==
              static_cast<T>(in[static_cast<std::size_t>(at)]));
    }
  }
}

TEST_CASE("patches refuse images that do not fall into them") {
  const Stream& stream = test::test_stream();
  const Tensor images = Tensor::zeros({1, 1, 6, 8}, DType::kFloat32, stream);
  Tensor y = Tensor::empty({2, 16}, DType::kFloat32, stream);
  CHECK_THROWS_AS(kernels::patches({.images = images, .size = 4, .y = y}, stream), ShapeError);
  CHECK_THROWS_AS(kernels::patches({.images = images, .size = 2, .y = y}, stream), ShapeError);
  const Tensor wide = Tensor::zeros({1, 1, 4, 8}, DType::kFloat64, stream);
  CHECK_THROWS_AS(kernels::patches({.images = wide, .size = 4, .y = y}, stream), DtypeError);
}

TEST_CASE("a class token comes first, and every token gets its position") {
  const Stream& stream = test::test_stream();
  const auto tensor = [&](const std::vector<double>& values, const Shape& shape) {
    return ag::Variable(Tensor::from(values, shape, stream));
  };
  const ag::Variable x = tensor({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2});
  const ag::Variable positions = tensor({10, 20, 30, 40, 50, 60}, {3, 2});
  const ag::Variable y = ag::join_tokens(x, tensor({-1, -2}, {2}), positions);
  CHECK(y.value().to_vector<double>() ==
        std::vector<double>{9, 18, 31, 42, 53, 64, 9, 18, 35, 46, 57, 68});
  const ag::Variable without = ag::join_tokens(x, ag::Variable(), tensor({1, 2, 3, 4}, {2, 2}));
  CHECK(without.value().to_vector<double>() == std::vector<double>{2, 4, 6, 8, 6, 8, 10, 12});
  const ag::Variable rows(y.value().reshape({6, 2}));
  CHECK(ag::first_tokens(rows, ag::Variable(), 3).value().to_vector<double>() ==
        std::vector<double>{9, 18, 9, 18});
  CHECK(ag::first_tokens(rows, rows, 3).value().to_vector<double>() ==
        std::vector<double>{18, 36, 18, 36});
  CHECK(ag::mean_tokens(y).value().to_vector<double>() ==
        std::vector<double>{31, 124.0 / 3, 101.0 / 3, 44});
  CHECK_THROWS_AS(ag::join_tokens(x, ag::Variable(), positions), ShapeError);
}

TEST_CASE("gradients of joining and pooling tokens agree with central differences") {
  struct Sizes {
    std::int64_t batch, tokens, width;
  };
  for (const Sizes& s : {Sizes{1, 1, 1}, {2, 3, 5}, {3, 7, 4}}) {
    CAPTURE(s.tokens);
    const Tensor x = random({s.batch, s.tokens, s.width}, 1);
    const auto with =
        test::gradcheck(joined, {x, random({s.width}, 2), random({s.tokens + 1, s.width}, 3)});
    CHECK_MESSAGE(with.max_relative_error <= 1e-6, with.worst);
    const auto without = test::gradcheck(joined, {x, random({s.tokens, s.width}, 3)});
    CHECK_MESSAGE(without.max_relative_error <= 1e-6, without.worst);
    const auto mean = test::gradcheck(
        [](const std::vector<ag::Variable>& in) { return ag::mean_tokens(in[0]); }, {x});
    CHECK_MESSAGE(mean.max_relative_error <= 1e-6, mean.worst);
    const auto first = test::gradcheck(
        [tokens = s.tokens](const std::vector<ag::Variable>& in) {
          return ag::first_tokens(in[0], in[1], tokens);
        },
        {random({s.batch * s.tokens, s.width}, 1), random({s.batch * s.tokens, s.width}, 4)});
    CHECK_MESSAGE(first.max_relative_error <= 1e-6, first.worst);
  }
}

TEST_CASE("tokens do not depend on the number of threads") {
  const Stream& stream = test::test_stream();
  const auto of = [&](const Shape& shape, std::uint64_t seed) {
    return test::random_tensor(shape, DType::kFloat32, stream, seed);
  };
  const std::vector<Tensor> inputs{of({5, 37, 67}, 1), of({67}, 2), of({38, 67}, 3)};
  CHECK(test::independent_of_threads(joined, inputs));
  CHECK(test::independent_of_threads(
      [](const std::vector<ag::Variable>& in) { return ag::mean_tokens(in[0]); }, {inputs[0]}));
}

}  // namespace hew
