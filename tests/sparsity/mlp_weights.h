#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "sparsity/sparsifier.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew::test {

/// Weights of a model with three transformer blocks, 24 × 20 in blocks of 8: 9 blocks each.
struct MlpWeights {
  Stream stream = test_stream();
  std::vector<std::unique_ptr<sparsity::LinearWeight>> owned;
  std::vector<sparsity::LinearWeight*> weights;

  MlpWeights() {
    for (int i = 0; i < 3; ++i) {
      for (const char* part : {"up", "down"}) {
        owned.push_back(std::make_unique<sparsity::LinearWeight>(
            fmt::format("blocks.{}.mlp.{}.weight", i, part),
            random_tensor({24, 20}, DType::kFloat64, stream, owned.size() + 1)));
        weights.push_back(owned.back().get());
      }
    }
  }

  /// As a backward pass would leave them: live and, where asked for, dense gradients.
  void make_gradients(std::uint64_t seed) {
    for (sparsity::LinearWeight* weight : weights) {
      const Tensor dense = random_tensor({24, 20}, DType::kFloat64, stream, ++seed);
      if (weight->wants_dense_gradient())
        weight->dense_gradient() = dense;
      const bool live = weight->storage() == sparsity::Storage::kLiveBlocks;
      weight->parameter().var.grad() = live ? sparsity::gather(dense, *weight->pattern()) : dense;
    }
  }
};

/// 20 % at first and 70 % from step 20 on, in blocks of 8, looked at every 5 steps.
inline sparsity::SparsityRule rule(const std::string& match) {
  sparsity::SparsityRule r;
  r.match = {match};
  r.block = 8;
  r.every = 5;
  r.schedule = {.kind = sparsity::ScheduleKind::kCubic,
                .initial = 0.2,
                .final = 0.7,
                .begin = StepMark::at(0),
                .end = StepMark::at(20),
                .table = {}};
  return r;
}

inline std::vector<sparsity::Score> tested_scores() {
  if (small_sizes())
    return {sparsity::Score::kEma};
  return {sparsity::Score::kMagnitude, sparsity::Score::kGradient, sparsity::Score::kEma,
          sparsity::Score::kRandom};
}

}  // namespace hew::test
