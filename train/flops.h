#pragma once

#include <cstdint>
#include <span>

#include "layers/config.h"

namespace hew::train {

/// What one linear weight [N, K] costs in a training step.
struct WeightCost {
  std::int64_t out_features = 0;  // N
  std::int64_t in_features = 0;   // K
  double density = 1;             // live elements of all; of forward and input gradient
  bool dense_gradient = false;    // the weight gradient is computed in full, whatever is live
};

/// Floating-point operations of one training step over `sequences` full windows, as they are really
/// computed, 2 for a multiply-add: 2·M·N·K·density for each of the three products of a weight,
/// M = sequences · context; causal attention over T(T + 1)/2 pairs, 2 products forward and 5
/// backward (scores are computed anew); the tied head, if it is one. Norms, activations, the
/// softmax and the optimizer are not counted (below 1 % at real sizes).
double step_flops(const layers::ModelConfig& model, std::int64_t sequences,
                  std::span<const WeightCost> weights);

}  // namespace hew::train
