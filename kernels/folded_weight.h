#pragma once

#include "kernels/bsr.h"

namespace hew::kernels {

/// The place for a block-sparse weight as a dense W [N, K], zero where blocks are dead, which
/// products that go through a dense one share. The first of them makes it; it is there until
/// drop(), which whoever writes the values has to call: they are not compared.
class FoldedWeight {
 public:
  /// W by these values: what is kept, if it was made from the same memory and index, else new.
  Tensor of(const ConstView& values, const BsrIndex& index, const Stream& stream);
  /// Forgets W. Who has it from of() keeps it.
  void drop() { w_ = Tensor(); }
  /// What is kept; undefined if nothing is.
  const Tensor& kept() const { return w_; }

 private:
  Tensor w_;
  const void* values_ = nullptr;
  const std::int32_t* col_ = nullptr;
  std::int64_t nnzb_ = 0;
};

}  // namespace hew::kernels
