#include "core/upload.h"

#include "core/error.h"

namespace hew {

Upload::Upload(const Stream& stream) : stream_(stream) {}

void Upload::open() {
  side_ = side_stream(stream_);
  copied_ = std::make_unique<cuda::Mark>();
  for (Turn& turn : turns_) turn.free = std::make_unique<cuda::Mark>();
}

Tensor Upload::to_device(std::span<const float> values, const Shape& shape) {
  require<ShapeError>(std::ssize(values) == shape.numel(), "[upload] {} values for {}",
                      values.size(), to_string(shape));
  if (stream_.device.is_cpu())
    return Tensor::from(values, shape, stream_);
  if (copied_ == nullptr)
    open();
  Turn& turn = turns_[next_ % turns_.size()];
  turns_[(next_ + 1) % turns_.size()].free->record(stream_);
  ++next_;
  if (!turn.tensor.defined() || turn.tensor.shape() != shape) {
    turn.tensor = Tensor::empty(shape, DType::kFloat32, stream_);
    turn.free->record(stream_);  // the memory may have been another's
  }
  turn.free->hold(side_);
  side_.state->waiter = stream_.state->waiter;
  cuda::copy(turn.tensor.view().data, stream_.device, values.data(), Device{}, turn.tensor.nbytes(),
             side_);
  copied_->record(side_);
  copied_->hold(stream_);
  return turn.tensor;
}

}  // namespace hew
