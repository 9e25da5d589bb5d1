#pragma once

#include "kernels/bsr.h"

namespace hew::kernels::hopper {

/// Whether bsr_weight_gradient below takes these arguments on this stream's device: Hopper,
/// b = 16, 32, 64 or 128, bfloat16 operands that TMA can move, an index with a schedule.
bool takes_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args);

/// The product of kernels/bsr.h in bfloat16 with float32 sums. Sums depend on the shapes, the
/// pattern and the number of multiprocessors alone.
void bsr_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args);

}  // namespace hew::kernels::hopper
