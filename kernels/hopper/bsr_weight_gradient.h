#pragma once

#include "kernels/bsr.h"

namespace hew::kernels::hopper {

/// Whether bsr_weight_gradient below takes these arguments on this stream's device: Hopper,
/// b = 32, 64 or 128 of bfloat16, or of float32 where its ProductSettings allow tf32; b = 16 of
/// bfloat16; operands that TMA can move, an index with a schedule.
bool takes_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args);

/// The product of kernels/bsr.h with float32 sums. Sums depend on the shapes, the
/// pattern and the number of multiprocessors alone.
void bsr_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args);

}  // namespace hew::kernels::hopper
