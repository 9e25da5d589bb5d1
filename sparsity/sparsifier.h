#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/cuda_device.h"
#include "sparsity/block_norms.h"
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
/// those of its scores forgotten. What averages its values is to be multiplied by the soft mask
/// that they were, if there was one.
struct StorageChange {
  LinearWeight* weight = nullptr;
  std::string scores_name;
  SoftMask soft = {};
};

/// Carries out a recipe's sparsity rules on a model's linear weights (methods.md): which weights,
/// which blocks, when. Decides from averaged gradients and from weights that are equal on every
/// rank, so that all ranks decide alike without talking.
///
/// One training step: begin_step → forward and backward; as each dense gradient is complete, it is
/// averaged and dense_gradient_done() called → average the other gradients → refresh → the
/// optimizer follows the changes, then steps.
class Sparsifier {
 public:
  /// Dense gradients that a GPU may hold, beside the newest, while the host chooses masks: enough
  /// that it has work queued for longer than the host takes.
  static constexpr std::int64_t kHeldBytes = std::int64_t{256} << 20U;

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
  /// Whether the backward of `step` moves the target's mask, and computes its whole gradient for
  /// it.
  bool trains_mask(const Target& target, std::int64_t step) const;

  /// Before the forward of `step`: masks that training moves are selected, masters whose scores
  /// freeze now become live blocks (the optimizer must follow), and dense gradients are requested
  /// where the refresh of this step may bring dead blocks in.
  std::vector<StorageChange> begin_step(std::int64_t step);
  /// Selects the masks that training moves, by scores or soft masks, as they are now (for
  /// evaluation and export after a step). The host waits for a GPU only where several matrices
  /// compete in one top-k, since how many blocks each of them keeps is then up to the scores.
  /// Otherwise patterns are made on the GPU, without a schedule, so that products take a way that
  /// wants none (kernels/bsr_route.h).
  void select_trained_masks(std::int64_t step);
  /// Ends training of masks where they are: masters under a mask that training moves become live
  /// blocks, whose patterns have schedules. The host waits for the masks.
  std::vector<StorageChange> fold_masks();
  /// The weight whose dense gradient that leaf is for (ag::BackwardHooks), or null. It was asked
  /// for by begin_step() for this step's backward.
  LinearWeight* dense_gradient_weight(const void* leaf) const;
  /// That weight's dense gradient is complete and averaged. Where used_up_early(), the new mask is
  /// chosen from here on, and of the gradient only what refresh() then needs is kept: on the CPU at
  /// once, on a GPU when more than kHeldBytes wait, so that it goes on with backward while the host
  /// waits for norms and chooses. Without this call refresh() finds whole gradients, and does the
  /// same with them.
  void dense_gradient_done(const LinearWeight& weight, std::int64_t step);
  /// Whether a matrix under the rule is a top-k of its own whose scores need no other gradients.
  static bool used_up_early(const SparsityRule& rule);
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
  // What prune_and_grow looks at, of the matrices of a pool end to end.
  struct PoolScores {
    MaskBytes live;
    std::vector<double> score;
    std::vector<double> growth;
    std::vector<std::int64_t> begin{0};
  };
  // Norms that a target's refresh looks at, as entries of one BlockNorms.
  struct Looks {
    std::optional<std::size_t> weight = {};    // of live blocks
    std::optional<std::size_t> gradient = {};  // of live blocks
    std::optional<std::size_t> growth = {};    // of all
  };
  // A target whose mask is chosen before refresh().
  struct Ahead {
    std::size_t target = 0;
    std::int64_t step = 0;
    std::int64_t bytes = 0;  // of the dense gradient
    BlockNorms norms = {};
    Looks looks = {};
    std::unique_ptr<cuda::Mark> computed = nullptr;  // the norms; on a GPU
  };

  void build_pools();
  void choose_initial(const Pool& pool);
  bool may_grow(const Pool& pool, std::int64_t step) const;
  std::int64_t wanted_blocks(const Pool& pool, std::int64_t step) const;
  bool refreshes(const Target& target, std::int64_t step) const;
  Looks looks(const Target& target, bool refreshes, BlockNorms& norms) const;
  std::vector<double> live_scores(const Target& target, std::int64_t step, const Looks& looks,
                                  const BlockNorms& norms) const;
  std::vector<double> growth_scores(const Target& target, std::int64_t step, const Looks& looks,
                                    const BlockNorms& norms) const;
  void add_scores(std::size_t target, std::int64_t step, const Looks& looks,
                  const BlockNorms& norms, PoolScores& out) const;
  MaskBytes refreshed_mask(const Pool& pool, const PoolScores& scores, std::int64_t step) const;
  std::vector<MaskBytes> refreshed_masks(std::int64_t step);
  void choose_next();
  void forget_dense_gradients();
  void set_learning_rates();
  void update_average(const Target& target, const Looks& looks, const BlockNorms& norms);
  void move_average(const PatternChange& change);
  void select_soft_masks(const std::vector<std::size_t>& targets, std::int64_t step);
  std::vector<StorageChange> fold(const std::vector<Target>& targets) const;
  void add_changes(const Pool& pool, std::span<const std::uint8_t> pooled,
                   std::vector<std::size_t>& targets, std::vector<BlockMask>& masks) const;
  MaskBytes pooled_mask(const Pool& pool, std::int64_t step) const;
  // Whether its mask is selected in every forward, from now on too.
  bool selects(const Target& target) const;
  std::uint64_t weight_key(const Target& target) const;
  bool frozen(const Target& target, std::int64_t step) const;

  std::vector<SparsityRule> rules_;
  std::vector<Target> targets_;
  std::vector<Pool> pools_;
  std::uint64_t seed_ = 0;
  std::map<std::string, std::vector<double>> averages_;
  // Of the step that goes on:
  std::unordered_map<const void*, std::size_t> asked_;  // targets by their dense gradient's leaf
  std::deque<std::unique_ptr<Ahead>> ahead_;
  std::map<std::size_t, MaskBytes> chosen_;  // by target, before refresh()
  Stream reading_;                           // beside the weights' stream; once it is needed
};

}  // namespace hew::sparsity
