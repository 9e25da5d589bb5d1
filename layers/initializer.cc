#include "layers/initializer.h"

#include <vector>

#include "core/name_hash.h"
#include "core/rng.h"
#include "kernels/elementwise.h"

namespace hew::layers {

Tensor Initializer::normal(const std::string& name, const Shape& shape, double std) const {
  if (shapes_only)
    return Tensor::meta(shape, dtype, stream);
  const std::uint64_t stream_number = name_hash(name);
  const std::int64_t n = shape.numel();
  // Drawn in float32 whatever the dtype, so that a float64 run starts from the same model.
  std::vector<float> values(static_cast<std::size_t>(n));
#pragma omp parallel for
  for (std::int64_t i = 0; i < n; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    values[static_cast<std::size_t>(i)] =
        static_cast<float>(std * hew::normal(seed, stream_number, index));
  }
  if (dtype == DType::kFloat32)
    return Tensor::from(values, shape, stream);
  const std::vector<double> wide(values.begin(), values.end());
  return Tensor::from(wide, shape, stream);
}

Tensor Initializer::constant(const Shape& shape, double value) const {
  if (shapes_only)
    return Tensor::meta(shape, dtype, stream);
  Tensor t = Tensor::empty(shape, dtype, stream);
  kernels::fill(value, t, stream);
  return t;
}

}  // namespace hew::layers
