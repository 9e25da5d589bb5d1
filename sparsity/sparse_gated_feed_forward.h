#pragma once

#include "autograd/variable.h"
#include "sparsity/sparse_feed_forward.h"

namespace hew::sparsity {

/// y = (silu(x·gateᵀ + gate.bias) ⊙ (x·upᵀ + up.bias))·downᵀ + down.bias: x [M, C], gate and up
/// [F, C], down [C', F]. What sparse_linear and ag::swiglu make of it, with SwiGLU taken where the
/// up product ends, and its gradient where the input gradient of down does.
struct SparseGatedFeedForwardArgs {
  ag::Variable x;
  SparseLayer gate;
  SparseLayer up;
  SparseLayer down;
};
ag::Variable sparse_gated_feed_forward(const SparseGatedFeedForwardArgs& args);

}  // namespace hew::sparsity
