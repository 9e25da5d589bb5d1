#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// What the cross entropy against a distribution is weighted with.
struct SoftCrossEntropyOptions {
  double smoothing = 0;  // ε: targets become (1 − ε)·targets + ε/V
  double scale = 1;
};

/// scale · mean over samples of −Σ_v target[v]·log softmax(logits)[v], in nats; a scalar [] of the
/// accumulator's dtype. logits [M, V], targets float32 [M, V], whose rows usually add up to 1.
/// Errors: kernels::soft_cross_entropy.
Variable soft_cross_entropy(const Variable& logits, const Tensor& targets,
                            const SoftCrossEntropyOptions& options = {});

}  // namespace hew::ag
