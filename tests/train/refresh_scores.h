#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "sparsity/selection.h"
#include "train/trained_model.h"

namespace hew::test {

/// What a mask refresh of one matrix decides by, and what it decides.
struct RefreshScores {
  std::string name;
  std::vector<double> weight;  // block norms; 0 of dead blocks
  std::vector<double> growth;  // block norms of the whole gradient; empty where nothing grows
  sparsity::MaskBytes kept;    // the k best by weight
  sparsity::MaskBytes live;    // after blocks have been swapped
  std::int64_t swaps = 0;      // ⌊α·k⌋, at most so many

  /// The root mean square of the gradient's elements.
  double typical_gradient() const;
  /// Names the blocks in which `other` differs from `live` though no errors of the norms explain
  /// it: of a gradient's by up to `error` of it, or of what is typical where that is more; of a
  /// weight's by up to `weight_error` of it. Where all norms err by e at most, so does the m-th
  /// best: whoever lies further than both errors from it is in or out in any case. Empty where
  /// there are none.
  std::string unexplained(const sparsity::MaskBytes& other, double error,
                          double weight_error) const;
};

/// Of all matrices under a rule with score: magnitude, growth: gradient and regrow: swap, in the
/// refresh of the step after a checkpoint, made from it on the CPU in the precision of its weights.
/// `change` may change the model first.
std::vector<RefreshScores> refresh_scores(
    const std::filesystem::path& checkpoint,
    const std::function<void(train::TrainedModel&)>& change = {});

}  // namespace hew::test
