#include "tests/support/compare.h"

#include <doctest/doctest.h>

#include <cmath>

namespace hew::test {

TEST_CASE("compare finds a NaN, an infinity, one wrong block and a wrong shape") {
  const Stream cpu = make_cpu_stream();
  std::vector<float> good(1024, 1.0F);
  const Tensor a = Tensor::from(good, {32, 32}, cpu);
  CHECK(compare(a, a, 0).ok);
  std::vector<float> nan = good;
  nan[17] = NAN;
  CHECK_FALSE(compare(a, Tensor::from(nan, {32, 32}, cpu), 1e9).ok);
  CHECK_FALSE(compare(Tensor::from(nan, {32, 32}, cpu), Tensor::from(nan, {32, 32}, cpu), 1e9).ok);
  std::vector<float> infinite = good;
  infinite[17] = INFINITY;
  CHECK_FALSE(compare(a, Tensor::from(infinite, {32, 32}, cpu), 1e-5).ok);
  CHECK_FALSE(compare(Tensor::from(infinite, {32, 32}, cpu), a, 1e-5).ok);
  std::vector<float> block = good;
  for (int i = 8; i < 16; ++i) block[static_cast<std::size_t>(i)] = 1.001F;
  const Comparison found = compare(Tensor::from(block, {32, 32}, cpu), a, 1e-5);
  CHECK_FALSE(found.ok);
  CHECK(found.text.find("8 of 1024") != std::string::npos);
  CHECK_FALSE(compare(a, a.reshape({1024}), 1).ok);
}

}  // namespace hew::test
