#include "tests/support/random.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "core/error.h"
#include "core/rng.h"

namespace hew::test {
namespace {

// The first `count` values of a seed. What has been drawn is kept: a test draws the same ones for
// many shapes.
std::vector<double> normals(std::uint64_t seed, std::int64_t count) {
  static std::mutex mutex;
  static std::map<std::uint64_t, std::vector<double>> drawn;
  const std::scoped_lock lock(mutex);
  std::vector<double>& values = drawn[seed];
  const auto begin = std::ssize(values);
  if (begin < count) {
    values.resize(static_cast<std::size_t>(count));
#pragma omp parallel for schedule(static)
    for (std::int64_t i = begin; i < count; ++i)
      values[static_cast<std::size_t>(i)] = normal(seed, 0, static_cast<std::uint64_t>(i));
  }
  return {values.begin(), values.begin() + count};
}

}  // namespace

Tensor random_tensor(const Shape& shape, DType dtype, const Stream& stream, std::uint64_t seed) {
  const std::vector<double> wide = normals(seed, shape.numel());
  if (dtype == DType::kFloat64)
    return Tensor::from(wide, shape, stream);
  require<DtypeError>(dtype == DType::kFloat32, "[random_tensor] {}", name_of(dtype));
  std::vector<float> narrow(wide.begin(), wide.end());
  return Tensor::from(narrow, shape, stream);
}

}  // namespace hew::test
