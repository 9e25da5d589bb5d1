#pragma once

#include <array>
#include <memory>
#include <span>

#include "core/cuda_device.h"
#include "core/tensor.h"

namespace hew {

/// Brings arrays to a stream's device while the stream still works on what came before. On a GPU
/// copies go on a queue of their own into two tensors that take turns; on the CPU each array gets a
/// tensor.
class Upload {
 public:
  explicit Upload(const Stream& stream);

  /// The values, for what is queued on the stream from here on and before the next call: on a GPU
  /// the next call but one overwrites them as soon as that is done. The caller's memory may be
  /// changed when this returns. Throws ShapeError.
  Tensor to_device(std::span<const float> values, const Shape& shape);

 private:
  struct Turn {
    Tensor tensor;
    std::unique_ptr<cuda::Mark> free;  // what was queued on the stream with the tensor lies before
  };

  void open();

  Stream stream_;
  Stream side_;  // made with the first tensor
  std::array<Turn, 2> turns_;
  std::unique_ptr<cuda::Mark> copied_;
  std::size_t next_ = 0;
};

}  // namespace hew
