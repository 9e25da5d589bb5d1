#include "train/flops.h"

namespace hew::train {

WeightCost dense_cost(const layers::ModelConfig& model, std::string_view name,
                      std::int64_t out_features, std::int64_t in_features) {
  WeightCost cost{.out_features = out_features, .in_features = in_features, .rows = model.context};
  if (!model.reads_images())
    return cost;
  if (name == "patch_embedding.weight") {
    cost.rows = model.patches();
    cost.input_gradient = false;
  } else if (name == "head.weight") {
    cost.rows = 1;
  }
  return cost;
}

double weight_flops(std::int64_t samples, const WeightCost& weight) {
  const double product = 2 * (static_cast<double>(samples) * static_cast<double>(weight.rows)) *
                         static_cast<double>(weight.out_features) *
                         static_cast<double>(weight.in_features);
  return (weight.input_gradient ? 2 : 1) * product * weight.density +  // y and dx
         product * (weight.dense_gradient ? 1 : weight.density);       // dw
}

double step_flops(const layers::ModelConfig& model, std::int64_t samples,
                  std::span<const WeightCost> weights) {
  const auto batch = static_cast<double>(samples);
  const auto context = static_cast<double>(model.context);
  const double tokens = batch * context;
  double flops = 0;
  for (const WeightCost& weight : weights) flops += weight_flops(samples, weight);
  constexpr double kAttentionProducts = 2 + 5;
  const double pairs = model.reads_images() ? context * context : context * (context + 1) / 2;
  flops += static_cast<double>(model.layers) * kAttentionProducts * 2 * batch * pairs *
           static_cast<double>(model.heads * model.head_width());
  if (model.tied_embeddings) {
    flops += 3 * 2 * tokens * static_cast<double>(model.vocab) * static_cast<double>(model.width);
  }
  return flops;
}

}  // namespace hew::train
