#include "app/bench_random.h"

#include <doctest/doctest.h>

#include <cmath>

namespace hew {

TEST_CASE("random tensors have the deviation asked for, and differ") {
  RandomTensors random(make_cpu_stream());
  const Shape shape{3, 33333};
  const auto a = random.normal(shape, DType::kFloat32).to_vector<float>();
  const auto b = random.normal(shape, DType::kFloat32).to_vector<float>();
  CHECK(a != b);
  const auto c = random.normal(shape, DType::kFloat64, 0.5).to_vector<double>();
  double sum = 0;
  double squares = 0;
  for (const double value : c) {
    sum += value;
    squares += value * value;
  }
  const auto n = static_cast<double>(c.size());
  CHECK(std::abs(sum / n) < 5 * 0.5 / std::sqrt(n));
  CHECK(std::sqrt(squares / n) == doctest::Approx(0.5).epsilon(0.02));
}

TEST_CASE("a random tensor may be larger than what is drawn") {
  RandomTensors random(make_cpu_stream());
  const auto values = random.normal({5'000'000}, DType::kFloat32).to_vector<float>();
  CHECK(std::isfinite(values.front()));
  CHECK(values.back() != 0);
  CHECK(random.normal({1}, DType::kFloat64).to_vector<double>().front() != 0);
}

}  // namespace hew
