#include "core/tensor.h"

#include <cstring>

#include "core/error.h"
#include "core/memory.h"

namespace hew {

Tensor Tensor::meta(const Shape& shape, DType dtype, const Stream& stream) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.stream_ = stream;
  return t;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, const Stream& stream) {
  Tensor t = meta(shape, dtype, stream);
  const std::int64_t bytes = t.nbytes();
  t.storage_ = std::shared_ptr<void>(
      stream.allocator->allocate(bytes),
      [allocator = stream.allocator, bytes](void* data) { allocator->release(data, bytes); });
  return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, const Stream& stream) {
  Tensor t = empty(shape, dtype, stream);
  t.fill_zero();
  return t;
}

Tensor Tensor::from_bytes(const void* values, std::size_t count, DType dtype, const Shape& shape,
                          const Stream& stream) {
  require<ShapeError>(static_cast<std::int64_t>(count) == shape.numel(),
                      "[tensor] {} values do not fill shape {}", count, to_string(shape));
  Tensor t = empty(shape, dtype, stream);
  copy_memory(t.view().data, stream.device, values, Device{}, t.nbytes(), stream);
  return t;
}

View Tensor::view() {
  return {storage_ ? static_cast<char*>(storage_.get()) + offset_ : nullptr, shape_, dtype_,
          device()};
}

ConstView Tensor::view() const {
  return {storage_ ? static_cast<const char*>(storage_.get()) + offset_ : nullptr, shape_, dtype_,
          device()};
}

Tensor Tensor::reshape(const Shape& shape) const {
  require<ShapeError>(shape.numel() == numel(), "[reshape] {} has {} elements, {} has {}",
                      to_string(shape_), numel(), to_string(shape), shape.numel());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t count) const {
  require<ShapeError>(shape_.rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0],
                      "[rows] rows {} to {} of shape {}", begin, begin + count, to_string(shape_));
  std::vector<std::int64_t> extents(shape_.begin(), shape_.end());
  const std::int64_t row_bytes = shape_[0] == 0 ? 0 : nbytes() / shape_[0];
  extents[0] = count;
  Tensor t = *this;
  t.shape_ = Shape(extents);
  t.offset_ += begin * row_bytes;
  return t;
}

Tensor Tensor::clone() const {
  if (!defined() || is_meta())
    return *this;
  Tensor t = empty(shape_, dtype_, stream_);
  t.copy_from(*this);
  return t;
}

void Tensor::fill_zero() {
  zero_memory(view().data, device(), nbytes(), stream_);
}

void Tensor::copy_from(const Tensor& other) {
  require<ShapeError>(other.shape_ == shape_, "[copy] source has shape {}, expected {}",
                      to_string(other.shape_), to_string(shape_));
  require<DtypeError>(other.dtype_ == dtype_, "[copy] source is {}, expected {}",
                      name_of(other.dtype_), name_of(dtype_));
  // In the order of the GPU's stream, whichever side that is.
  const Stream& on = device().is_cpu() ? other.stream_ : stream_;
  copy_memory(view().data, device(), other.view().data, other.device(), nbytes(), on);
}

void Tensor::copy_to_host(void* out, DType dtype) const {
  require<DtypeError>(dtype == dtype_, "[to_vector] tensor is {}, asked for {}", name_of(dtype_),
                      name_of(dtype));
  copy_memory(out, Device{}, view().data, device(), nbytes(), stream_);
}

}  // namespace hew
