#pragma once

#include "kernels/bsr.h"
#include "kernels/elementwise.h"
#include "kernels/swiglu.h"

namespace hew::kernels {

/// What a product ends in, as passes of their own, for kernels that do not make it where they
/// write. `product` is x·Wᵀ + bias, and may be y.
template <class T, class Backend>
void end_forward(Backend backend, const BsrForwardArgs& args, const ConstView& product) {
  if (args.gate)
    swiglu_forward<T>(backend, args.gate, product, args.y);
  if (args.residual)
    add<T>(backend, product, args.residual, args.y);
}

/// dx holds dy·W.
template <class T, class Backend>
void end_input_gradient(Backend backend, const BsrInputGradientArgs& args) {
  if (args.activation != Activation::kNone) {
    activation_backward<T>(backend, {.activation = args.activation,
                                     .x = args.pre,
                                     .dy = args.dx,
                                     .dx = args.dx,
                                     .dbias = args.dbias});
  }
  if (args.gate) {
    swiglu_backward<T>(
        backend,
        {.gate = args.gate, .up = args.up, .dy = args.dx, .dgate = args.dgate, .dup = args.dx});
  }
}

}  // namespace hew::kernels
