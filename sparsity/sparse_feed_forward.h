#pragma once

#include "autograd/variable.h"
#include "kernels/activation.h"
#include "sparsity/sparse_products.h"

namespace hew::sparsity {

/// y = act(x·upᵀ + up.bias)·downᵀ + down.bias: x [M, C], up [F, C], down [C', F]. What
/// sparse_linear(sparse_linear(x, up, act), down) is, with the gradient of the activation and of
/// up.bias taken in the product that ends in them. Outside of training, where no input wants a
/// gradient, it may be one kernel (kernels::bsr_mlp_forward), whose sums may be in another order.
struct SparseFeedForwardArgs {
  ag::Variable x;
  SparseLayer up;
  SparseLayer down;
  kernels::Activation activation = kernels::Activation::kGeluTanh;
  bool training = true;
};
ag::Variable sparse_feed_forward(const SparseFeedForwardArgs& args);

}  // namespace hew::sparsity
