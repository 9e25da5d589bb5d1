#pragma once

#include "kernels/bsr.h"

namespace hew::kernels::hopper {

/// The bfloat16 products of b = 32, 64, 128 with TMA and wgmma; see bsr_product.cuh. For b = 32 an
/// infinity or NaN in the input may reach rows of W that have no block there: a dead block beside a
/// live one is multiplied as zeros.

/// Whether they can be computed here: the device is a Hopper, the index has a schedule, and rows
/// are aligned for TMA.
bool takes(Cuda backend, const BsrForwardArgs& args);
bool takes(Cuda backend, const BsrInputGradientArgs& args);

void bsr_forward(Cuda backend, const BsrForwardArgs& args);
void bsr_input_gradient(Cuda backend, const BsrInputGradientArgs& args);

}  // namespace hew::kernels::hopper
