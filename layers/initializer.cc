#include "layers/initializer.h"

#include <algorithm>
#include <type_traits>

#include "core/name_hash.h"
#include "core/rng.h"
#include "kernels/elementwise.h"

namespace hew::layers {
namespace {

// A second of one thread, about.
constexpr std::int64_t kDrawnAtOnce = std::int64_t{1} << 24;

}  // namespace

Tensor Initializer::normal(const std::string& name, const Shape& shape, double std) const {
  if (shapes_only)
    return Tensor::meta(shape, dtype, stream);
  const std::uint64_t stream_number = name_hash(name);
  const std::int64_t n = shape.numel();
  const Stream host = stream.device.is_cpu() ? stream : make_cpu_stream();
  Tensor values = Tensor::empty(shape, dtype, host);
  for (std::int64_t begin = 0; begin < n; begin += kDrawnAtOnce) {
    if (interrupt)
      interrupt();
    const std::int64_t end = std::min(n, begin + kDrawnAtOnce);
    // Drawn in float32 whatever the dtype, so that a float64 run starts from the same model.
    const auto draw = [&](auto* out) {
      using T = std::remove_pointer_t<decltype(out)>;
#pragma omp parallel for
      for (std::int64_t i = begin; i < end; ++i) {
        const auto index = static_cast<std::uint64_t>(i);
        out[i] = T{static_cast<float>(std * hew::normal(seed, stream_number, index))};
      }
    };
    if (dtype == DType::kFloat32)
      draw(values.data<float>());
    else
      draw(values.data<double>());
  }
  if (stream.device.is_cpu())
    return values;
  Tensor out = Tensor::empty(shape, dtype, stream);
  out.copy_from(values);
  return out;
}

Tensor Initializer::constant(const Shape& shape, double value) const {
  if (shapes_only)
    return Tensor::meta(shape, dtype, stream);
  Tensor t = Tensor::empty(shape, dtype, stream);
  kernels::fill(value, t, stream);
  return t;
}

}  // namespace hew::layers
