#include "train/inspection.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"

namespace hew::train {
namespace {

double norm_of(const Tensor& values) {
  return std::sqrt(kernels::sum_of_squares(values, values.stream()));
}

WeightInspection inspect(const sparsity::LinearWeight& weight) {
  WeightInspection out{.name = weight.name(),
                       .out_features = weight.out_features(),
                       .in_features = weight.in_features(),
                       .storage = weight.storage()};
  if (weight.pattern() == nullptr) {
    out.live_blocks = out.blocks = out.row_blocks_min = out.row_blocks_max = 1;
    out.norm = norm_of(weight.parameter().value());
    return out;
  }
  const sparsity::BsrPattern& pattern = *weight.pattern();
  out.block = pattern.grid().block;
  out.live_blocks = pattern.nnzb();
  out.blocks = pattern.grid().blocks();
  out.sparsity = pattern.sparsity();
  const std::vector<std::int32_t> crow = pattern.crow_indices();
  out.row_blocks_min = pattern.grid().block_cols();
  for (std::size_t r = 0; r + 1 < crow.size(); ++r) {
    const std::int64_t live = crow[r + 1] - crow[r];
    out.row_blocks_min = std::min(out.row_blocks_min, live);
    out.row_blocks_max = std::max(out.row_blocks_max, live);
  }
  out.norm = norm_of(weight.live_values());
  return out;
}

}  // namespace

std::vector<WeightInspection> inspect_weights(layers::Model& model) {
  std::vector<WeightInspection> out;
  for (const sparsity::LinearWeight* weight : model.linear_weights()) {
    out.push_back(inspect(*weight));
  }
  return out;
}

ParameterCount count_parameters(layers::Model& model) {
  ParameterCount count;
  for (const ag::Parameter* parameter : model.parameters()) {
    count.stored += parameter->value().numel();
  }
  count.dense = count.stored;
  for (sparsity::LinearWeight* weight : model.linear_weights()) {
    count.dense +=
        weight->out_features() * weight->in_features() - weight->parameter().value().numel();
    if (weight->has_scores())
      count.dense -= weight->scores().value().numel();
  }
  return count;
}

std::string draw_mask(const sparsity::BsrPattern& pattern) {
  const sparsity::MaskBytes mask = pattern.mask();
  const auto columns = static_cast<std::size_t>(pattern.grid().block_cols());
  std::string picture;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    picture += mask[i] != 0 ? "#" : "·";
    if ((i + 1) % columns == 0)
      picture += '\n';
  }
  return picture;
}

}  // namespace hew::train
