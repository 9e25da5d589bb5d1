#include "optim/weight_average.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using Values = std::vector<double>;

ag::Parameter parameter_of(const std::string& name, const Values& values, const Shape& shape) {
  return {.name = name,
          .var = ag::Variable(Tensor::from(values, shape, test::test_stream()),
                              /*requires_grad=*/true)};
}

void set(ag::Parameter& p, const Values& values) {
  p.var.mutable_value().copy_from(Tensor::from(values, p.value().shape(), p.value().stream()));
}

}  // namespace

TEST_CASE("an average starts at the weight and follows it") {
  ag::Parameter a = parameter_of("a", {1, 2}, {2});
  ag::Parameter b = parameter_of("b", {-4}, {1});
  optim::WeightAverage average({&a, &b});
  set(a, {3, 6});
  CHECK(average["a"].to_vector<double>() == Values{1, 2});
  average.update({&a, &b}, 0.5);
  CHECK(average["a"].to_vector<double>() == Values{2, 4});
  CHECK(average["b"].to_vector<double>() == Values{-4});
  average.update({&a, &b}, 0);
  CHECK(average["a"].to_vector<double>() == Values{3, 6});
  CHECK_THROWS_AS(average["c"], ConfigError);
  CHECK_THROWS_AS(optim::WeightAverage({&a, &a}), ConfigError);
}

TEST_CASE("an average follows blocks; one that has grown starts at its weight") {
  ag::Parameter w = parameter_of("w", {1, 2, 3, 4, 5, 6}, {3, 1, 2});
  optim::WeightAverage average({&w});
  w.var = ag::Variable(
      Tensor::from(Values{7, 7, 50, 60, 10, 20, 9, 9}, {4, 1, 2}, test::test_stream()), true);
  CHECK_THROWS_AS(average.update({&w}, 0.5), ShapeError);
  CHECK_THROWS_AS(average.remap(w, std::vector<std::int64_t>{0, 1}), ShapeError);
  CHECK_THROWS_AS(average.remap(w, std::vector<std::int64_t>{-1, 3, 0, -1}), ShapeError);
  average.remap(w, std::vector<std::int64_t>{-1, 2, 0, -1});
  CHECK(average["w"].to_vector<double>() == Values{7, 7, 5, 6, 1, 2, 9, 9});
  average.update({&w}, 0.5);
  CHECK(average["w"].to_vector<double>() == Values{7, 7, 27.5, 33, 5.5, 11, 9, 9});
}

TEST_CASE("an average changes its storage, and what is gone is forgotten") {
  ag::Parameter w = parameter_of("w", {1, 2, 3, 4}, {4});
  ag::Parameter s = parameter_of("w.scores", {5}, {1});
  optim::WeightAverage average({&w, &s});
  average.convert("w", [](const Tensor& t) { return t.rows(1, 2).clone(); });
  average.forget("w.scores");
  average.forget("w.scores");
  CHECK(average["w"].to_vector<double>() == Values{2, 3});
  CHECK(average.state().size() == 1);
}

TEST_CASE("averages come back from their state, and what does not fit is refused") {
  ag::Parameter a = parameter_of("a", {1, 2}, {2});
  ag::Parameter b = parameter_of("b", {3}, {1});
  const optim::WeightAverage saved({&a, &b});
  set(a, {8, 9});
  optim::WeightAverage loaded({&a, &b});
  loaded.load(saved.state());
  CHECK(loaded["a"].to_vector<double>() == Values{1, 2});
  const optim::WeightAverage less({&a});
  CHECK_THROWS_WITH_AS(loaded.load(less.state()), "[weight_average] there is no saved average of b",
                       DataError);
  optim::WeightAverage only_a({&a});
  CHECK_THROWS_WITH_AS(only_a.load(saved.state()),
                       "[weight_average] no parameter wants the saved average of b", DataError);
  ag::Parameter longer = parameter_of("a", {1, 2, 3}, {3});
  optim::WeightAverage other({&longer});
  CHECK_THROWS_AS(other.load(less.state()), DataError);
  CHECK(other["a"].to_vector<double>() == Values{1, 2, 3});
}

}  // namespace hew
