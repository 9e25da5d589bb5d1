#pragma once

#include <cstdint>
#include <optional>

#include "autograd/parameter.h"
#include "autograd/variable.h"

namespace hew::ag {

/// What one forward pass needs to know beyond its input. Dropout draws by (seed, step, call,
/// global element), so that masks are the same for any number of ranks and micro-batches.
struct ForwardContext {
  bool training = false;            // apply dropout, record the tape
  std::uint64_t seed = 0;           // run.seed
  std::uint64_t step = 0;           // training step; part of the checkpoint
  std::int64_t first_sample = 0;    // index in the global batch of this micro-batch's first sample
  std::uint64_t dropout_calls = 0;  // dropout layers passed so far in this forward
  std::optional<DType> dtype = {};  // of activations; by default that of the parameters
  bool taped = true;                // with `training`: record the tape
  bool recompute_blocks = false;    // keep only the inputs of transformer blocks
  bool remake_activations = false;  // make those of dense MLPs again in the backward pass
  bool remake_norms = false;        // make outputs of norms again in the backward pass

  /// The parameter in the dtype of activations, as a leaf of the tape when training, cut off from
  /// it otherwise.
  Variable use(const Parameter& parameter) const {
    if (!parameter.var)
      return {};
    return use_master(leaf_of(parameter));
  }
  /// The leaf behind use(): the parameter, or its working copy.
  Variable leaf_of(const Parameter& parameter) const {
    return dtype ? parameter.var.working(*dtype) : parameter.var;
  }
  /// The same as it is held.
  Variable use_master(const Variable& leaf) const {
    return training && taped ? leaf : leaf.detach();
  }
};

}  // namespace hew::ag
