#pragma once

#include <cstdint>

#include "autograd/variable.h"

namespace hew::ag {

struct LinearCrossEntropyOptions {
  double scale = 1;
  /// Tokens whose logits exist at once. 0: as many as give logits of 256 MiB, in multiples of 256
  /// and at least 256, in chunks of about one length; all of them where that is enough.
  std::int64_t chunk_tokens = 0;
};

/// scale · mean cross entropy of the logits x·wᵀ, a scalar [] of the accumulator's dtype: what
/// cross_entropy(linear(x, w), targets, scale) is, without ever storing all logits. x [M, C],
/// w [V, C], targets int32 [M] as for cross_entropy. Where the tape wants gradients they are
/// computed here, chunk by chunk, and kept ([M, C] in x's dtype, [V, C] in the accumulator's); the
/// rule only multiplies them by what comes in. Throws as cross_entropy does, and ConfigError where
/// chunk_tokens is negative.
Variable linear_cross_entropy(const Variable& x, const Variable& w, const Tensor& targets,
                              const LinearCrossEntropyOptions& options = {});

}  // namespace hew::ag
