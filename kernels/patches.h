#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Images cut into squares of p × p pixels, row by row, each a vector in the order of Conv2d's
/// weights: with h = H/p and w = W/p
///   y[(b·h + i)·w + j, (c·p + u)·p + v] ← images[b, c, i·p + u, j·p + v].
struct Patches {
  ConstView images;       // [B, C, H, W] float32
  std::int64_t size = 0;  // p
  View y;                 // [B·h·w, C·p·p], of any floating dtype
};

/// Throws ShapeError, also unless p divides H and W, and DtypeError.
void patches(const Patches& args, const Stream& stream);

template <class T>
void patches(Cpu, const Patches& args);
template <class T>
void patches(Cuda, const Patches& args);

}  // namespace hew::kernels
