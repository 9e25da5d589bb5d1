#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sparsity/linear_weight.h"
#include "sparsity/rule.h"
#include "sparsity/selection.h"

namespace hew::sparsity {

/// What the optimizer must follow: block p of `weight`'s parameter now is what was block source[p],
/// or new where source[p] is −1.
struct PatternChange {
  LinearWeight* weight = nullptr;
  std::vector<std::int64_t> source;
};

/// A master that has become live blocks: its moments [N, K] are to be gathered like its values, and
/// those of its scores forgotten.
struct StorageChange {
  LinearWeight* weight = nullptr;
  std::string scores_name;
};

/// Carries out a recipe's sparsity rules on a model's linear weights (methods.md): which weights,
/// which blocks, when. Decides from averaged gradients and from weights that are equal on every
/// rank, so that all ranks decide alike without talking.
///
/// One training step: begin_step → forward and backward → average gradients, and dense gradients of
/// dense_gradient_weights() → refresh → the optimizer follows the changes, then steps.
class Sparsifier {
 public:
  struct Target {
    LinearWeight* weight = nullptr;
    std::size_t rule = 0;
  };

  /// Matches weights with rules (the first that fits wins; keep_dense_first and _last leave outer
  /// transformer blocks dense). Throws ConfigError, naming the rule, where one matches nothing or
  /// where rules that share a top-k differ in their slots.
  Sparsifier(std::vector<SparsityRule> rules, const std::vector<LinearWeight*>& weights,
             std::int64_t transformer_blocks, std::uint64_t seed);

  /// Puts every target into its storage with the pattern of step 0.
  void initialise();

  const std::vector<SparsityRule>& rules() const { return rules_; }
  const std::vector<Target>& targets() const { return targets_; }
  /// Wanted sparsity of a target's rule at `step`.
  double wanted_sparsity(const Target& target, std::int64_t step) const;

  /// Before the forward of `step`: masks by learned scores are selected, masters whose scores
  /// freeze now become live blocks (the optimizer must follow), and dense gradients are requested
  /// where the refresh of this step may bring dead blocks in.
  std::vector<StorageChange> begin_step(std::int64_t step);
  /// Selects masks by learned scores as they are now (for evaluation and export after a step). The
  /// host waits for scores on a GPU only where kernels want a schedule, which it makes from the
  /// mask, or several matrices compete in one top-k, since how many blocks each of them keeps is
  /// then up to the scores.
  void select_learned_masks(std::int64_t step);
  /// Weights whose dense_gradient() this step's backward computes.
  std::vector<LinearWeight*> dense_gradient_weights() const;
  /// Whether refresh() of this step looks at or moves gradients of parameters.
  bool reads_gradients(std::int64_t step) const;
  /// After backward, with averaged gradients: moving averages of scores are updated and, where
  /// this step refreshes, new masks are chosen and weights and gradients moved to them.
  std::vector<PatternChange> refresh(std::int64_t step);

  /// State beyond weights and patterns, for the checkpoint: moving averages, float64 [nnzb] by
  /// weight name.
  std::map<std::string, std::vector<double>>& score_averages() { return averages_; }

 private:
  // Targets that compete in one top-k.
  using Pool = std::vector<std::size_t>;

  void build_pools();
  void choose_initial(const Pool& pool);
  bool may_grow(const Pool& pool, std::int64_t step) const;
  std::int64_t wanted_blocks(const Pool& pool, std::int64_t step) const;
  std::vector<double> live_scores(const Target& target, std::int64_t step) const;
  std::vector<double> growth_scores(const Target& target, std::int64_t step) const;
  void update_average(const Target& target);
  void refresh_pool(const Pool& pool, std::int64_t step, std::vector<PatternChange>& changes);
  void set_masks(const Pool& pool, const MaskBytes& pooled);
  MaskBytes pooled_mask(const Pool& pool, std::int64_t step) const;
  bool learned(const Target& target) const;
  std::uint64_t weight_key(const Target& target) const;
  bool frozen(const Target& target, std::int64_t step) const;

  std::vector<SparsityRule> rules_;
  std::vector<Target> targets_;
  std::vector<Pool> pools_;
  std::uint64_t seed_ = 0;
  std::map<std::string, std::vector<double>> averages_;
};

}  // namespace hew::sparsity
