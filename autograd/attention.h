#pragma once

#include "autograd/variable.h"
#include "kernels/attention.h"

namespace hew::ag {

/// Scaled dot-product attention, q [B, Tq, H, D], k and v [B, Tk, Hkv, D] → [B, Tq, H, D].
/// Formula and errors: kernels::AttentionForward.
Variable attention(const Variable& q, const Variable& k, const Variable& v,
                   const kernels::AttentionOptions& options);

}  // namespace hew::ag
