#pragma once

#include "autograd/variable.h"
#include "kernels/activation.h"

namespace hew::ag {

/// act(x·wᵀ + bias): x [M, K], w [N, K], bias [N] or undefined → [M, N].
Variable linear(const Variable& x, const Variable& w, const Variable& bias = Variable(),
                kernels::Activation activation = kernels::Activation::kNone);

}  // namespace hew::ag
