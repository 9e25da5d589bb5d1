#pragma once

#include "kernels/bsr.h"
#include "kernels/bsr_route.h"

namespace hew::kernels {

/// Whether the stream's BsrSettings choose the dense product. `problem` says everything but tf32.
bool folding_is_cheaper(Cuda backend, BsrProblem problem);

/// The three products of kernels/bsr.h through a dense [N, K], in scratch memory but for a weight
/// that is shared (FoldedWeight): what is cheapest where many blocks live. An infinity or NaN in an
/// input meets the zeros of dead blocks, and becomes a NaN in outputs that have no block there.
void bsr_forward_folded(Cuda backend, const BsrForwardArgs& args);
void bsr_input_gradient_folded(Cuda backend, const BsrInputGradientArgs& args);
void bsr_weight_gradient_folded(Cuda backend, const BsrWeightGradientArgs& args);

}  // namespace hew::kernels
