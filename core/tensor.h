#pragma once

#include <cassert>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "core/stream.h"

namespace hew {

/// Read-only look at a dense row-major array. Owns nothing.
struct ConstView {
  const void* data = nullptr;
  Shape shape;
  DType dtype = DType::kFloat32;
  Device device;

  std::int64_t numel() const { return shape.numel(); }
  explicit operator bool() const { return data != nullptr; }
  template <class T>
  const T* as() const {
    assert(data == nullptr || dtype == kDTypeOf<T>);
    return static_cast<const T*>(data);
  }
};

/// Writable look at a dense row-major array. Owns nothing.
struct View {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::kFloat32;
  Device device;

  std::int64_t numel() const { return shape.numel(); }
  explicit operator bool() const { return data != nullptr; }
  template <class T>
  T* as() const {
    assert(data == nullptr || dtype == kDTypeOf<T>);
    return static_cast<T*>(data);
  }
  operator ConstView() const { return {data, shape, dtype, device}; }  // NOLINT
};

/// Shared owner of a dense row-major array on one device. Copying a Tensor shares its memory.
/// A tensor without memory ("meta") has shape, dtype and stream only.
class Tensor {
 public:
  Tensor() = default;

  /// Contents undefined. Throws std::bad_alloc.
  static Tensor empty(const Shape& shape, DType dtype, const Stream& stream);
  static Tensor zeros(const Shape& shape, DType dtype, const Stream& stream);
  /// Shape and dtype only; view().data is null. Stands for a value that is never materialised.
  static Tensor meta(const Shape& shape, DType dtype, const Stream& stream);
  /// Copies host values to the stream's device.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape, const Stream& stream) {
    return from_bytes(values.data(), values.size(), kDTypeOf<T>, shape, stream);
  }
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, const Stream& stream) {
    return from(std::span<const T>(values), shape, stream);
  }

  bool defined() const { return stream_.allocator != nullptr; }
  explicit operator bool() const { return defined(); }
  bool is_meta() const { return defined() && storage_ == nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t size(int i) const { return shape_[i]; }
  std::int64_t numel() const { return shape_.numel(); }
  std::int64_t nbytes() const { return numel() * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return stream_.device; }
  const Stream& stream() const { return stream_; }

  /// Tensors that share this memory, this one included.
  std::int64_t use_count() const { return storage_.use_count(); }
  View view();
  ConstView view() const;
  operator View() { return view(); }             // NOLINT(google-explicit-constructor)
  operator ConstView() const { return view(); }  // NOLINT(google-explicit-constructor)
  /// Pointer to the first element; T must be the dtype's type.
  template <class T>
  T* data() {
    return view().as<T>();
  }
  template <class T>
  const T* data() const {
    return view().as<T>();
  }

  /// The same memory under another shape of as many elements. Throws ShapeError.
  Tensor reshape(const Shape& shape) const;
  /// Rows [begin, begin + count) of the first dimension, sharing memory. Throws ShapeError.
  Tensor rows(std::int64_t begin, std::int64_t count) const;
  /// A deep copy on the same stream.
  Tensor clone() const;
  void fill_zero();
  /// Copies values of an equal shape and dtype from any device of this build. Throws ShapeError,
  /// DtypeError.
  void copy_from(const Tensor& other);
  /// The values on the host, in row-major order.
  template <class T>
  std::vector<T> to_vector() const {
    std::vector<T> out(static_cast<std::size_t>(numel()));
    copy_to_host(out.data(), kDTypeOf<T>);
    return out;
  }

 private:
  static Tensor from_bytes(const void* values, std::size_t count, DType dtype, const Shape& shape,
                           const Stream& stream);
  void copy_to_host(void* out, DType dtype) const;

  std::shared_ptr<void> storage_;
  std::int64_t offset_ = 0;  // bytes into storage_
  Shape shape_;
  DType dtype_ = DType::kFloat32;
  Stream stream_;
};

}  // namespace hew
