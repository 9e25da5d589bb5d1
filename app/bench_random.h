#pragma once

#include <cstdint>
#include <map>

#include "core/tensor.h"

namespace hew {

/// Random data of benchmarks on one stream. They are drawn once and laid out again and again, at
/// another offset in each tensor, so that a large tensor costs a copy.
class RandomTensors {
 public:
  explicit RandomTensors(const Stream& stream) : stream_(stream) {}

  /// Normal with mean 0; dtype is floating.
  Tensor normal(const Shape& shape, DType dtype, double deviation = 1);

 private:
  const Tensor& pattern(DType dtype);

  Stream stream_;
  std::map<DType, Tensor> patterns_;
  std::int64_t offset_ = 0;  // into a pattern, of the next tensor
};

}  // namespace hew
