#pragma once

#include <cstdint>

#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew::test {

/// The distance from 1 to the next number of a floating dtype.
inline double epsilon(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-52;
    case DType::kFloat32:
      return 0x1p-23;
    default:
      return 0x1p-7;  // bfloat16
  }
}

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

/// Standard normal values; `misaligned` ones start one element past a 16-byte boundary.
inline GpuInput gpu_input(const Shape& shape, DType dtype, std::uint64_t seed,
                          bool misaligned = false) {
  const Stream cpu = make_cpu_stream();
  GpuInput out = gpu_input(random_tensor(shape, DType::kFloat64, cpu, seed), dtype);
  if (misaligned) {
    Tensor shifted = poisoned({shape.numel() + 1}, dtype, gpu_stream());
    Tensor inside = shifted.rows(1, shape.numel()).reshape(shape);
    inside.copy_from(out.gpu);
    out.gpu = inside;
  }
  return out;
}

}  // namespace hew::test
