#pragma once

#include <cstdint>
#include <vector>

#include "train/recipe.h"

namespace hew::train {

/// What one parameter stores and takes part with, in elements.
struct StoredParameter {
  double stored = 0;           // of its value, its gradient and each moment
  double live = 0;             // of what products read
  bool masked = false;         // products read a copy of the live blocks
  double folded = 0;           // of the dense copy that products of live blocks share
  double dense_gradient = 0;   // of the gradient that a mask refresh asks for
  bool used_up_early = false;  // of that only blocks that grow are kept until the refresh
};

/// The model beside its parameters' sizes, at one step of a run.
struct StoredModel {
  std::vector<StoredParameter> parameters;
  double head_elements = 0;     // stored of the matrix that makes logits
  bool sparse_head = false;     // full logits are stored
  std::int64_t dense_mlps = 0;  // blocks whose MLP has no sparsity rule
};

/// Bytes that one rank needs on its device, by what they hold. Parameters' sizes are exact;
/// activations are counted from what the layers keep for the backward pass, of norms without their
/// statistics; `passing` is the larger of the loss's chunk of logits and the gradients
/// within one MLP; `libraries` is what CUDA, cuBLAS and cuDNN were seen to take on one H100.
struct MemoryEstimate {
  double weights = 0;  // masters
  double copies = 0;   // of weights, in the type of the activations, and of a mask's live blocks
  double folded = 0;   // dense copies of live blocks (run.keep_folded), in the same type
  double moments = 0;
  double averages = 0;  // of weights, with train.ema
  double gradients = 0;
  double dense_gradients = 0;  // in steps whose mask refresh asks for them
  double activations = 0;      // of one micro-batch
  double passing = 0;
  double libraries = 0;
  double most = 0;  // at one time: gradients come as activations go
};

/// What recipe.model leaves to the data is filled in. Throws ConfigError where the ranks cannot
/// share the batch.
MemoryEstimate estimate_memory(const Recipe& recipe, int ranks, const StoredModel& model);

}  // namespace hew::train
