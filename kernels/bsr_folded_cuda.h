#pragma once

#include "kernels/bsr.h"

namespace hew::kernels {

/// The three products of kernels/bsr.h through a dense [N, K] in scratch memory: what is cheapest
/// where many blocks live.
void bsr_forward_folded(Cuda backend, const BsrForwardArgs& args);
void bsr_input_gradient_folded(Cuda backend, const ConstView& dy, const ConstView& values,
                               const BsrIndex& index, const View& dx);
void bsr_weight_gradient_folded(Cuda backend, const BsrWeightGradientArgs& args);

}  // namespace hew::kernels
