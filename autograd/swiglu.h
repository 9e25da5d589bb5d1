#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// silu(gate) ⊙ up, one shape. Formula: kernels::swiglu_forward. Throws ShapeError, DtypeError.
Variable swiglu(const Variable& gate, const Variable& up);

}  // namespace hew::ag
