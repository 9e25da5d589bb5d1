#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sparsity/pattern.h"

namespace hew::sparsity {

/// A soft top-k mask m over the blocks of a dense W, 0 ≤ m ≤ 1 (kernels/soft_top.h), and what its
/// Jacobian is made of.
struct SoftMask {
  Tensor norms;  // float64 [R, C]: ‖W[r,c]‖_F / √(its real elements)
  Tensor mask;   // float64 [R, C]: m
  Tensor slope;  // float64 [1]

  bool defined() const { return mask.defined(); }
};

/// The mask that is wanted of a master W [N, K].
struct SoftMaskRequest {
  Tensor weight;
  BlockGrid grid;
  std::int64_t keep = 0;  // k
  double sharpness = 1;   // β
};
/// Of matrices of one stream. The host waits for nothing.
std::vector<SoftMask> soft_masks(std::span<const SoftMaskRequest> requests);

/// W ⊙ expand(m), [N, K].
Tensor softened(const Tensor& weight, const SoftMask& soft, std::int64_t block);

/// ∂L/∂W [N, K] for G = ∂L/∂(W ⊙ expand(m)), where m follows from W by its blocks' norms:
/// G ⊙ expand(m), and through m what kernels::soft_top_gradient says with ∂L/∂m[r,c] = Σ over
/// block (r, c) of G ⊙ W.
Tensor soft_gradient(const Tensor& g, const Tensor& weight, const SoftMask& soft,
                     const BlockGrid& grid);

}  // namespace hew::sparsity
