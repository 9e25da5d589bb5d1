#include "kernels/average.h"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {

TEST_CASE_TEMPLATE("averages move by their formula, all tensors in one call", T, float, double) {
  const Stream& stream = test::test_stream();
  const DType dtype = kDTypeOf<T>;
  std::vector<Tensor> values;
  std::vector<Tensor> averages;
  std::vector<Tensor> expected;
  std::vector<kernels::AverageTensors> all;
  constexpr double kDecay = 0.9;
  std::uint64_t seed = 1;
  // The last starts off a 16-byte address.
  for (const std::int64_t n : {1, 0, 7, 8192, 8193, 20011, 5001}) {
    const std::int64_t shift = n == 5001 ? 1 : 0;
    values.push_back(test::random_tensor({n + shift}, dtype, stream, ++seed).rows(shift, n));
    averages.push_back(test::random_tensor({n + shift}, dtype, stream, ++seed).rows(shift, n));
    const std::vector<T> value = values.back().template to_vector<T>();
    std::vector<T> wanted = averages.back().template to_vector<T>();
    for (std::size_t i = 0; i < wanted.size(); ++i)
      wanted[i] = static_cast<T>(kDecay * wanted[i] + (1 - kDecay) * value[i]);
    expected.push_back(Tensor::from(wanted, {n}, stream));
    all.push_back({.value = values.back(), .average = averages.back()});
  }
  kernels::move_averages(all, kDecay, stream);
  constexpr double kTolerance = 4 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (std::size_t i = 0; i < values.size(); ++i)
    HEW_CHECK_CLOSE(averages[i], expected[i], kTolerance, kTolerance);
  kernels::move_averages(all, 0, stream);
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(test::same_bytes(averages[i], values[i]));
  kernels::move_averages({}, 0.5, stream);
}

TEST_CASE("averages of another shape or type are refused") {
  const Stream cpu = make_cpu_stream();
  const Tensor value = Tensor::zeros({3}, DType::kFloat32, cpu);
  auto run = [&](Tensor average) {
    const std::vector<kernels::AverageTensors> one{{.value = value, .average = average}};
    kernels::move_averages(one, 0.5, cpu);
  };
  CHECK_THROWS_AS(run(Tensor::zeros({4}, DType::kFloat32, cpu)), ShapeError);
  CHECK_THROWS_AS(run(Tensor::zeros({3}, DType::kFloat64, cpu)), DtypeError);
  CHECK_THROWS_AS(run(Tensor::zeros({3}, DType::kInt32, cpu)), DtypeError);
}

}  // namespace hew
