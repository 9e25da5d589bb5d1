#pragma once

#include <span>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y ← x with its dimensions reordered: dimension i of y is dimension axes[i] of x. y is not x.
/// Throws ShapeError unless axes is a permutation of 0 … rank−1 and y has the permuted shape.
void permute(const ConstView& x, std::span<const int> axes, const View& y, const Stream& stream);

/// The shape of x with its dimensions reordered. Throws ShapeError.
Shape permuted(const Shape& shape, std::span<const int> axes);

/// to[m, to_begin + c] ← from[m, from_begin + c] for c < count; both [M, any width], not the same
/// memory. Throws ShapeError if a range does not fit.
struct CopyColumns {
  ConstView from;  // [M, C]
  View to;         // [M, C']
  std::int64_t from_begin = 0;
  std::int64_t to_begin = 0;
  std::int64_t count = 0;
};
void copy_columns(const CopyColumns& args, const Stream& stream);

template <class T>
void permute(Cpu, const ConstView& x, std::span<const int> axes, const View& y);
template <class T>
void permute(Cuda, const ConstView& x, std::span<const int> axes, const View& y);
template <class T>
void copy_columns(Cpu, const CopyColumns& args);
template <class T>
void copy_columns(Cuda, const CopyColumns& args);

}  // namespace hew::kernels
