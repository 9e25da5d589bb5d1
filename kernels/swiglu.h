#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y ← silu(gate) ⊙ up with silu(x) = x / (1 + e^−x) (Shazeer 2020), one shape. y may be an input.
void swiglu_forward(const ConstView& gate, const ConstView& up, const View& y,
                    const Stream& stream);

/// Gradients of swiglu_forward.
struct SwigluBackward {
  ConstView gate;
  ConstView up;
  ConstView dy;
  View dgate;  // dy ⊙ up ⊙ silu'(gate); may be an input, but not dup
  View dup;    // dy ⊙ silu(gate); may be an input
};
void swiglu_backward(const SwigluBackward& args, const Stream& stream);

template <class T>
void swiglu_forward(Cpu, const ConstView& gate, const ConstView& up, const View& y);
template <class T>
void swiglu_forward(Cuda, const ConstView& gate, const ConstView& up, const View& y);
template <class T>
void swiglu_backward(Cpu, const SwigluBackward& args);
template <class T>
void swiglu_backward(Cuda, const SwigluBackward& args);

}  // namespace hew::kernels
