#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/model.h"

namespace hew::train {

/// What one linear weight looks like now. A dense one counts as one live block of its own size.
struct WeightInspection {
  std::string name;
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  sparsity::Storage storage = sparsity::Storage::kDense;
  std::int64_t block = 0;  // 0: dense
  std::int64_t live_blocks = 0;
  std::int64_t blocks = 0;
  double sparsity = 0;              // share of dead blocks
  std::int64_t row_blocks_min = 0;  // live blocks of the emptiest and the fullest block row
  std::int64_t row_blocks_max = 0;
  double norm = 0;  // Frobenius, of what is live
};

std::vector<WeightInspection> inspect_weights(layers::Model& model);

/// Elements of all parameters, as they are held and with every block stored.
struct ParameterCount {
  std::int64_t stored = 0;
  std::int64_t dense = 0;
};
ParameterCount count_parameters(layers::Model& model);

/// One character a block, `#` live and `·` dead, one line a block row.
std::string draw_mask(const sparsity::BsrPattern& pattern);

}  // namespace hew::train
