#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// What a norm does beside its formula.
struct NormOptions {
  double eps = 1e-5;
  /// The result is not kept for the backward pass: it is made again from x, bit by bit.
  bool remake = false;
};

/// x + residual, and its norm. Without a residual, sum is x.
struct AddedNorm {
  Variable sum;
  Variable normed;
};

/// normed = (s − mean)/√(var + eps) ⊙ weight + bias over the last dimension of s = x + residual,
/// in one pass; x and residual [..., C], weight and bias [C]; residual and bias may be undefined.
/// Formula: kernels::LayerNormForward.
AddedNorm add_layer_norm(const Variable& x, const Variable& residual, const Variable& weight,
                         const Variable& bias, const NormOptions& options);
/// normed = s/√(mean(s²) + eps) ⊙ weight, the same way.
AddedNorm add_rms_norm(const Variable& x, const Variable& residual, const Variable& weight,
                       const NormOptions& options);

/// The norm of x alone.
Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps);
Variable rms_norm(const Variable& x, const Variable& weight, double eps);

}  // namespace hew::ag
