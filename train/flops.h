#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "layers/config.h"

namespace hew::train {

/// What one linear weight [N, K] costs in a training step.
struct WeightCost {
  std::int64_t out_features = 0;  // N
  std::int64_t in_features = 0;   // K
  std::int64_t rows = 0;          // of x, for each sample
  double density = 1;             // live elements of all; of forward and input gradient
  bool dense_gradient = false;    // the weight gradient is computed in full, whatever is live
  bool input_gradient = true;     // x needs a gradient
};

/// The shape and rows of a model's linear weight of that name, dense, and whether its input needs a
/// gradient: a ViT's patches are no token of their own, its head looks at one row, and pixels need
/// none.
WeightCost dense_cost(const layers::ModelConfig& model, std::string_view name,
                      std::int64_t out_features, std::int64_t in_features);

/// 2·M·N·K·density for each of the two or three products of a weight in a step over `samples` full
/// windows or images, M = samples · rows.
double weight_flops(std::int64_t samples, const WeightCost& weight);

/// Floating-point operations of one training step over `samples` full windows or images, as they
/// are really computed, 2 for a multiply-add: weight_flops(); attention over T(T + 1)/2 pairs if
/// causal, else T², 2 products forward and 5 backward (scores are computed anew); the tied head, if
/// it is one. Norms, activations, the softmax and the optimizer are not counted (below 1 % at real
/// sizes).
double step_flops(const layers::ModelConfig& model, std::int64_t samples,
                  std::span<const WeightCost> weights);

}  // namespace hew::train
