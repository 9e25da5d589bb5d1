#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "optim/adamw.h"
#include "sparsity/sparsifier.h"

namespace hew::test {

/// The regression of tests/python/blast_reference.py on hew's own parts, in float64: one weight
/// W [N, K], loss 1/(2M) Σ (X·Wᵀ − Y)², AdamW with clipping by the global norm.
class Regression {
 public:
  /// Takes W, X, Y, block size, optimizer settings and, where it has them, scores S from a golden.
  Regression(const nlohmann::json& golden, sparsity::SparsityRule rule);

  /// One training step in the order of methods.md; returns the loss before it.
  double step(std::int64_t step);

  /// The mask of the latest forward or refresh.
  sparsity::MaskBytes mask() const { return weight_.pattern()->mask(); }
  sparsity::LinearWeight& weight() { return weight_; }

 private:
  double backward(const ag::Variable& prediction) const;
  std::vector<ag::Parameter*> parameters();

  Tensor x_;  // [M, K]
  Tensor y_;  // [M, N]
  sparsity::LinearWeight weight_;
  sparsity::Sparsifier sparsifier_;
  std::unique_ptr<optim::AdamW> optimizer_;
  double lr_;
  double clip_norm_;
};

/// A rule for W by method, with the golden's block size; the other members are the caller's.
sparsity::SparsityRule rule_for(const nlohmann::json& golden, sparsity::Method method);

/// Follows a recorded run under a rule whose mask training moves until it freezes: losses, masks
/// and the weight at the end, to within `rounding`. `check` is given the weight after each step,
/// what is recorded of that step, and whether the mask is frozen.
void follow_trained_masks(
    const nlohmann::json& golden, const nlohmann::json& recorded,
    const sparsity::SparsityRule& rule, double rounding,
    const std::function<void(sparsity::LinearWeight& weight, const nlohmann::json& step,
                             bool frozen)>& check);

/// Calls with each of a golden's cases.
void for_each_case(const nlohmann::json& golden,
                   const std::function<void(const nlohmann::json& recorded)>& follow);

}  // namespace hew::test
