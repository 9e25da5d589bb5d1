#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// Rotary position embedding of x [B, T, H, D]; `offset` is the position of the first token.
/// Formula and errors: kernels::Rotary.
Variable rotary(const Variable& x, double theta, std::int64_t offset);

}  // namespace hew::ag
