#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// (x − mean)/√(var + eps) ⊙ weight + bias over the last dimension; x [..., C], weight and bias
/// [C], bias may be undefined. Formula: kernels::LayerNormForward.
Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps);

/// x/√(mean(x²) + eps) ⊙ weight over the last dimension; x [..., C], weight [C].
Variable rms_norm(const Variable& x, const Variable& weight, double eps);

}  // namespace hew::ag
