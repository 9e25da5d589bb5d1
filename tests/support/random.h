#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace hew::test {

/// Standard normal values that depend on the seed alone; float32 or float64, on any device.
Tensor random_tensor(const Shape& shape, DType dtype, const Stream& stream, std::uint64_t seed);

}  // namespace hew::test
