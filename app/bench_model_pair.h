#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/trained_model.h"

namespace hew {

/// One model twice: with live blocks, and dense with zeros in place of the dead ones.
struct ModelPair {
  train::Recipe recipe;
  train::SparseModel sparse;
  train::SparseModel dense;
  std::int64_t masked_weights = 0;  // matrices under a mask
  std::int64_t live_elements = 0;   // of their blocks, padding included
  std::int64_t masked_elements = 0;
  std::vector<std::int64_t> blocks;  // sizes, ascending

  /// Share of elements that are dead, of the matrices under a mask.
  double sparsity() const {
    return 1 - static_cast<double>(live_elements) / static_cast<double>(masked_elements);
  }
};

/// From a run, a checkpoint or a model file; or from a recipe (.yaml, .yml) with overrides: random
/// weights by its seed, and under each rule random masks of the rule's final sparsity. `precision`
/// takes the place of the recipe's. Throws ConfigError, also where no matrix is under a mask, and
/// DataError.
ModelPair open_pair(const std::vector<std::string>& words, const std::string& precision,
                    const Stream& stream);

/// A forward pass on random inputs that are drawn now: logits [samples or tokens, …].
std::function<Tensor()> forward_pass(const layers::Model& model, const train::Recipe& recipe,
                                     std::int64_t batch, std::int64_t tokens, const Stream& stream);

}  // namespace hew
