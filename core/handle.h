#pragma once

#include <utility>

namespace hew {

/// Move-only owner of a library handle. Traits has `using Value`, `static Value null()` and
/// `static void destroy(Value) noexcept`.
template <class Traits>
class UniqueHandle {
 public:
  using Value = typename Traits::Value;

  UniqueHandle() noexcept = default;
  explicit UniqueHandle(Value value) noexcept : value_(value) {}
  UniqueHandle(UniqueHandle&& other) noexcept
      : value_(std::exchange(other.value_, Traits::null())) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) {
      reset();
      value_ = std::exchange(other.value_, Traits::null());
    }
    return *this;
  }
  UniqueHandle(const UniqueHandle&) = delete;
  UniqueHandle& operator=(const UniqueHandle&) = delete;
  ~UniqueHandle() { reset(); }

  Value get() const noexcept { return value_; }
  explicit operator bool() const noexcept { return value_ != Traits::null(); }
  void reset() noexcept {
    if (value_ != Traits::null())
      Traits::destroy(value_);
    value_ = Traits::null();
  }

 private:
  Value value_ = Traits::null();
};

}  // namespace hew
