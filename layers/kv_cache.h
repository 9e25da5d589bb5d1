#pragma once

#include <vector>

#include "core/tensor.h"

namespace hew::layers {

/// Keys and values of the tokens one sequence has passed through a model so far, so that
/// generation computes each token once. One entry a transformer block.
struct KvCache {
  struct Layer {
    Tensor keys;    // [capacity, Hkv, D]; undefined before the first token
    Tensor values;  // the same
  };
  std::int64_t capacity = 0;  // tokens, at most the model's context
  std::int64_t length = 0;    // tokens held
  std::vector<Layer> layers;
};

}  // namespace hew::layers
