#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/tensor.h"

namespace hew::layers {

/// Makes starting values that depend on (seed, parameter name, index) alone, not on the order in
/// which a model is built.
struct Initializer {
  std::uint64_t seed = 0;
  DType dtype = DType::kFloat32;
  Stream stream;
  bool shapes_only = false;              // tensors without memory: a model to count, not to run
  std::function<void()> interrupt = {};  // called every second or so; throws to give up

  /// N(0, std²)
  Tensor normal(const std::string& name, const Shape& shape, double std) const;
  Tensor constant(const Shape& shape, double value) const;
};

}  // namespace hew::layers
