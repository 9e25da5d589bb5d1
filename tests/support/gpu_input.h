#pragma once

#include <cstdint>

#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew::test {

/// Equal values on the GPU, in a dtype, and on the host in float64.
struct GpuInput {
  Tensor gpu;
  Tensor wide;
};

/// The values of a host tensor, rounded to `dtype`.
inline GpuInput gpu_input(const Tensor& values, DType dtype) {
  const Tensor narrow = rounded(values, dtype);
  return {.gpu = to(narrow, gpu_stream()), .wide = rounded(narrow, DType::kFloat64)};
}

/// A copy that begins one element behind a 16-byte boundary.
inline Tensor misaligned(const Tensor& tensor) {
  const std::int64_t count = tensor.numel();
  const Tensor buffer = poisoned({count + 1}, tensor.dtype(), tensor.stream());
  Tensor out = buffer.rows(1, count).reshape(tensor.shape());
  out.copy_from(tensor);
  return out;
}

/// Standard normal values; `shifted` ones start one element past a 16-byte boundary.
inline GpuInput gpu_input(const Shape& shape, DType dtype, std::uint64_t seed,
                          bool shifted = false) {
  GpuInput out = gpu_input(random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed), dtype);
  if (shifted)
    out.gpu = misaligned(out.gpu);
  return out;
}

}  // namespace hew::test
