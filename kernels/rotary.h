#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Rotary position embedding (Su et al. 2021), dimension j paired with j + D/2 as Llama's weights
/// in Hugging Face's layout expect ("rotate half"). With a = (offset + t)·theta^(−2j/D), j < D/2:
///   y[j]       = x[j]·cos a − x[j + D/2]·sin a
///   y[j + D/2] = x[j + D/2]·cos a + x[j]·sin a
struct Rotary {
  ConstView x;  // [B, T, H, D], D even
  double theta = 10000;
  std::int64_t offset = 0;  // position of t = 0
  bool inverse = false;     // rotate by −a: the gradient's rule
  View y;                   // [B, T, H, D]; may be x
};

/// Throws ShapeError, DtypeError, and ConfigError unless theta > 0 and offset ≥ 0.
void rotary(const Rotary& args, const Stream& stream);

template <class T>
void rotary(Cpu, const Rotary& args);
template <class T>
void rotary(Cuda, const Rotary& args);

}  // namespace hew::kernels
