#pragma once

#include "kernels/bsr.h"
#include "kernels/bsr_schedule.h"

namespace hew::kernels::hopper {

/// out[tokens, width] ← act(in[tokens, depth] · blocks + bias), or the input's gradient
/// (in · blocks) ⊙ act'(pre) with the sums over its tokens.
struct BsrProductCall {
  ConstView in;
  ConstView values;  // of the gradient in float32: each block transposed
  const BsrWalk* walk;
  View out;
  ConstView pre = {};
  ConstView bias = {};
  Activation activation = Activation::kNone;
  View sums = {};
};

/// All matrices are of bfloat16, or of float32 that is multiplied as tf32; b = 16, 32, 64, 128.
void launch_bf16(Cuda backend, const BsrProductCall& call, bool gradient);
void launch_tf32(Cuda backend, const BsrProductCall& call, bool gradient);

/// Each block [b, b] of float32 transposed, b a multiple of 16.
Tensor transposed_blocks(Cuda backend, const ConstView& values);

}  // namespace hew::kernels::hopper
