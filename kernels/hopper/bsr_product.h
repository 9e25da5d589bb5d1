#pragma once

#include "kernels/bsr.h"

namespace hew::kernels::hopper {

/// The products of b = 16, 32, 64, 128 with TMA and wgmma, see bsr_product.cuh: of bfloat16, and of
/// float32 where the stream's ProductSettings allow tf32, whose factors TMA rounds to nearest and
/// for whose input gradient the blocks are transposed into scratch memory. For b < 64 an infinity
/// or NaN in the input may reach rows of W that have no block there: a dead block beside a live one
/// is multiplied as zeros. Activations are computed to a relative error of about 1e-6.

/// Whether they can be computed here: the device is a Hopper, the index has a schedule, types are
/// as above, and rows are aligned for TMA.
bool takes(Cuda backend, const BsrForwardArgs& args);
bool takes(Cuda backend, const BsrInputGradientArgs& args);

void bsr_forward(Cuda backend, const BsrForwardArgs& args);
void bsr_input_gradient(Cuda backend, const BsrInputGradientArgs& args);

}  // namespace hew::kernels::hopper
