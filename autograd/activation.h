#pragma once

#include "autograd/variable.h"
#include "kernels/activation.h"

namespace hew::ag {

/// act(x), any shape. Formulas: kernels::Activation.
Variable activation(const Variable& x, kernels::Activation kind);

}  // namespace hew::ag
