#pragma once

#include <cstdint>

#include "autograd/parameter.h"
#include "autograd/variable.h"

namespace hew::ag {

/// What one forward pass needs to know beyond its input. Dropout draws by (seed, step, call,
/// global element), so that masks are the same for any number of ranks and micro-batches.
struct ForwardContext {
  bool training = false;            // record the tape, apply dropout
  std::uint64_t seed = 0;           // run.seed
  std::uint64_t step = 0;           // training step; part of the checkpoint
  std::int64_t first_sample = 0;    // index in the global batch of this micro-batch's first sample
  std::uint64_t dropout_calls = 0;  // dropout layers passed so far in this forward

  /// The parameter as a leaf of the tape when training, cut off from it otherwise.
  Variable use(const Parameter& parameter) const {
    return training || !parameter.var ? parameter.var : parameter.var.detach();
  }
};

}  // namespace hew::ag
