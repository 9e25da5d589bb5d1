#include "tests/support/random.h"

#include "core/error.h"
#include "core/rng.h"

namespace hew::test {

Tensor random_tensor(const Shape& shape, DType dtype, const Stream& stream, std::uint64_t seed) {
  std::vector<double> wide(static_cast<std::size_t>(shape.numel()));
  const auto count = static_cast<std::int64_t>(wide.size());
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i)
    wide[static_cast<std::size_t>(i)] = normal(seed, 0, static_cast<std::uint64_t>(i));
  if (dtype == DType::kFloat64)
    return Tensor::from(wide, shape, stream);
  require<DtypeError>(dtype == DType::kFloat32, "[random_tensor] {}", name_of(dtype));
  std::vector<float> narrow(wide.begin(), wide.end());
  return Tensor::from(narrow, shape, stream);
}

}  // namespace hew::test
