#pragma once

#include <cstdint>
#include <optional>

#include "kernels/bsr.h"
#include "kernels/bsr_schedule.h"
#include "kernels/hopper/packing.h"

namespace hew::kernels::hopper {

/// What a product ends in, p being in · blocks (+ bias). Of the input gradient: kSlope and kGated.
///   kPlain     out ← act(p); second_out ← p
///   kGate      out ← silu(given) ⊙ p; second_out ← p
///   kResidual  out ← p + given
///   kSlope     out ← p ⊙ act'(given), with the sums over its tokens
///   kGated     out ← p ⊙ silu(given); second_out ← p ⊙ second_given ⊙ silu'(given)
enum class BsrEnding : std::uint8_t { kPlain, kGate, kResidual, kSlope, kGated };

/// Matrices [tokens, width] but for in [tokens, depth]; null where the ending has none, and
/// second_out where kPlain or kGate need not keep it.
struct BsrProductCall {
  ConstView in;
  ConstView values;  // of the gradient in float32: each block transposed
  const BsrWalk* walk;
  BsrEnding ending = BsrEnding::kPlain;
  Activation activation = Activation::kNone;
  View out;
  View second_out = {};
  ConstView given = {};
  ConstView second_given = {};
  ConstView bias = {};
  View sums = {};
  // Nothing: as the tiling's model says.
  std::optional<BsrPacking> packing = {};
  std::optional<bool> tall = {};
};

/// All matrices are of bfloat16, or of float32 that is multiplied as tf32; b = 16, 32, 64, 128.
void launch_bf16(Cuda backend, const BsrProductCall& call, bool gradient);
void launch_tf32(Cuda backend, const BsrProductCall& call, bool gradient);

/// Each block [b, b] of float32 transposed, b a multiple of 16.
Tensor transposed_blocks(Cuda backend, const ConstView& values);

}  // namespace hew::kernels::hopper
