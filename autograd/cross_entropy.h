#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// scale · mean over counted tokens of −log softmax(logits)[target], in nats; a scalar [] of the
/// accumulator's dtype.
/// logits [M, V], targets int32 [M], of which kernels::kIgnoredTarget (−1) is not counted; 0 if
/// none is. Errors, also of a target outside [0, V): kernels::token_losses.
Variable cross_entropy(const Variable& logits, const Tensor& targets, double scale = 1);

}  // namespace hew::ag
