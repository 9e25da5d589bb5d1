#pragma once

#include "autograd/variable.h"
#include "kernels/dropout.h"

namespace hew::ag {

/// x with elements zeroed with probability p and the others divided by 1 − p; x itself if p is 0.
/// Mask and errors: kernels::dropout.
Variable dropout(const Variable& x, const kernels::DropoutOptions& options);

}  // namespace hew::ag
