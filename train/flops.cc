#include "train/flops.h"

namespace hew::train {

double step_flops(const layers::ModelConfig& model, std::int64_t sequences,
                  std::span<const WeightCost> weights) {
  const auto batch = static_cast<double>(sequences);
  const auto context = static_cast<double>(model.context);
  const double tokens = batch * context;
  double flops = 0;
  for (const WeightCost& weight : weights) {
    const double product = 2 * tokens * static_cast<double>(weight.out_features) *
                           static_cast<double>(weight.in_features);
    flops += 2 * product * weight.density;                            // y and dx
    flops += product * (weight.dense_gradient ? 1 : weight.density);  // dw
  }
  constexpr double kAttentionProducts = 2 + 5;
  const double pairs = context * (context + 1) / 2;
  flops += static_cast<double>(model.layers) * kAttentionProducts * 2 * batch * pairs *
           static_cast<double>(model.heads * model.head_width());
  if (model.tied_embeddings) {
    flops += 3 * 2 * tokens * static_cast<double>(model.vocab) * static_cast<double>(model.width);
  }
  return flops;
}

}  // namespace hew::train
