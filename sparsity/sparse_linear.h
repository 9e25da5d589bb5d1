#pragma once

#include "autograd/variable.h"
#include "kernels/activation.h"
#include "sparsity/pattern.h"
#include "sparsity/soft_mask.h"
#include "sparsity/sparse_products.h"

namespace hew::sparsity {

/// y = act(x·Wᵀ + bias), x [M, K] → [M, N]. Gradients: x, values (live blocks only), bias, and the
/// layer's probe if it is defined and requires one.
struct SparseLinearArgs {
  ag::Variable x;
  SparseLayer layer;
  kernels::Activation activation = kernels::Activation::kNone;
};
ag::Variable sparse_linear(const SparseLinearArgs& args);

/// y = act(x·(W ⊙ mask)ᵀ + bias) with a dense master W [N, K] (methods.md §2, straight-through),
/// whose live blocks are rounded to x's dtype; a dense copy of them serves this op alone.
/// Gradients with G = ∂L/∂(W ⊙ mask): W gets G ⊙ mask, scores [R, C] get Σ over the block of G ⊙ W,
/// for dead blocks too. Without scores or a soft mask G is computed for live blocks only.
/// With a soft mask m the product is with W ⊙ m ⊙ mask, and W gets its gradient through W ⊙ m as
/// soft_gradient() says, as if the choice of blocks were the identity: Spartan's dual averaging
/// (Tai, Tian and Lim, NeurIPS 2022).
struct MaskedLinearArgs {
  ag::Variable x;
  ag::Variable weight;
  ag::Variable scores;  // may be undefined
  ag::Variable probe;   // may be undefined
  ag::Variable bias;    // may be undefined
  PatternPtr pattern;
  SoftMask soft;  // may be undefined
  kernels::Activation activation = kernels::Activation::kNone;
};
ag::Variable masked_linear(const MaskedLinearArgs& args);

}  // namespace hew::sparsity
