#pragma once

#include "autograd/variable.h"
#include "kernels/activation.h"

namespace hew::ag {

/// y = act(x·upᵀ + up_bias)·downᵀ + down_bias: x [M, C], up [F, C], down [C', F]; biases [F], [C']
/// or undefined. What linear(linear(x, up, up_bias, act), down, down_bias) is, with the gradient of
/// the activation and of up_bias taken in the product that ends in them.
struct FeedForwardArgs {
  Variable x;
  Variable up;
  Variable up_bias;
  Variable down;
  Variable down_bias;
  kernels::Activation activation = kernels::Activation::kGeluTanh;
  bool remake = false;  // the activation is not kept but made again from its input, bit by bit
};
Variable feed_forward(const FeedForwardArgs& args);

}  // namespace hew::ag
