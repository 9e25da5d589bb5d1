#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"
#include "sparsity/block_norms.h"
#include "sparsity/block_scores.h"
#include "sparsity/schedule.h"
#include "sparsity/selection.h"
#include "sparsity/sparsifier.h"

namespace hew::sparsity {
namespace {

const Tensor& gradient_of(const LinearWeight& weight) {
  const Tensor& gradient = weight.parameter().var.grad();
  require<Error>(gradient.defined(), "[sparsifier] {} has no gradient", weight.name());
  return gradient;
}

bool has_nan(const std::vector<double>& scores) {
  return std::any_of(scores.begin(), scores.end(), [](double s) { return std::isnan(s); });
}

// A stream beside `stream` on which the host can wait for what was queued up to a mark, and which
// is waited for as that is.
Stream reading_stream(const Stream& stream) {
  Stream side = side_stream(stream);
  if (!side.device.is_cpu())
    side.state->waiter = [stream](const cuda::Mark& mark) { cuda::wait(mark, stream); };
  return side;
}

}  // namespace

bool Sparsifier::reads_gradients(std::int64_t step) const {
  return std::any_of(targets_.begin(), targets_.end(), [&](const Target& target) {
    return rules_[target.rule].score == Score::kEma || refreshes(target, step);
  });
}

bool Sparsifier::refreshes(const Target& target, std::int64_t step) const {
  return !selects_every_step(rules_[target.rule]) && refreshes_at(rules_[target.rule], step);
}

Sparsifier::Looks Sparsifier::looks(const Target& target, bool refreshes, BlockNorms& norms) const {
  const SparsityRule& rule = rules_[target.rule];
  LinearWeight& weight = *target.weight;
  const bool averaged = rule.score == Score::kEma;  // in every step
  Looks out;
  if (averaged || (refreshes && rule.score == Score::kMagnitude))
    out.weight = norms.add_live(weight, weight.parameter().value());
  if (averaged || (refreshes && rule.score == Score::kGradient))
    out.gradient = norms.add_live(weight, gradient_of(weight));
  if (refreshes && rule.growth == Growth::kGradient && weight.wants_dense_gradient())
    out.growth = norms.add(weight.dense_gradient(), weight.pattern()->grid());
  return out;
}

void Sparsifier::update_average(const Target& target, const Looks& looks, const BlockNorms& norms) {
  const double decay = rules_[target.rule].ema_decay;
  const std::vector<double> w = norms[*looks.weight];
  const std::vector<double> g = norms[*looks.gradient];
  std::vector<double>& average = averages_[target.weight->name()];
  for (std::size_t p = 0; p < average.size(); ++p) {
    average[p] = decay * average[p] + (1 - decay) * w[p] * g[p];
  }
}

std::vector<double> Sparsifier::live_scores(const Target& target, std::int64_t step,
                                            const Looks& looks, const BlockNorms& norms) const {
  const LinearWeight& weight = *target.weight;
  switch (rules_[target.rule].score) {
    case Score::kMagnitude:
      return spread(*weight.pattern(), norms[*looks.weight]);
    case Score::kGradient:
      return spread(*weight.pattern(), norms[*looks.gradient]);
    case Score::kEma:
      return spread(*weight.pattern(), averages_.at(weight.name()));
    case Score::kRandom:
      return random_block_scores(weight.pattern()->grid(), weight_key(target), 2 * (step + 1));
    case Score::kLearned:
    case Score::kSoftMagnitude:
      break;  // selected by select_trained_masks
  }
  throw Error(fmt::format("[sparsifier] {} has no score to refresh by", weight.name()));
}

std::vector<double> Sparsifier::growth_scores(const Target& target, std::int64_t step,
                                              const Looks& looks, const BlockNorms& norms) const {
  if (rules_[target.rule].growth == Growth::kRandom)
    return random_block_scores(target.weight->pattern()->grid(), weight_key(target),
                               2 * (step + 1) + 1);
  return looks.growth ? norms[*looks.growth] : std::vector<double>{};
}

void Sparsifier::add_scores(std::size_t target, std::int64_t step, const Looks& looks,
                            const BlockNorms& norms, PoolScores& out) const {
  const MaskBytes live = targets_[target].weight->pattern()->mask();
  const std::vector<double> score = live_scores(targets_[target], step, looks, norms);
  const std::vector<double> growth = growth_scores(targets_[target], step, looks, norms);
  out.live.insert(out.live.end(), live.begin(), live.end());
  out.score.insert(out.score.end(), score.begin(), score.end());
  out.growth.insert(out.growth.end(), growth.begin(), growth.end());
  out.begin.push_back(std::ssize(out.live));
}

MaskBytes Sparsifier::refreshed_mask(const Pool& pool, const PoolScores& scores,
                                     std::int64_t step) const {
  const SparsityRule& rule = rules_[targets_[pool.front()].rule];
  const bool last = step >= rule.schedule.end.step;
  return prune_and_grow({.live = scores.live,
                         .score = scores.score,
                         .growth = scores.growth,
                         .wanted = wanted_blocks(pool, step),
                         .regrow = last ? Regrow::kNone : rule.regrow,
                         .swap_fraction = swap_fraction_at(rule, step),
                         .matrix_begin = scores.begin});
}

void Sparsifier::forget_dense_gradients() {
  asked_.clear();
  ahead_.clear();
  chosen_.clear();
  for (const Target& target : targets_) target.weight->clear_dense_gradient();
}

LinearWeight* Sparsifier::dense_gradient_weight(const void* leaf) const {
  const auto found = asked_.find(leaf);
  return found == asked_.end() ? nullptr : targets_[found->second].weight;
}

bool Sparsifier::used_up_early(const SparsityRule& rule) {
  return rule.scope == Scope::kMatrix &&
         (rule.score == Score::kMagnitude || rule.score == Score::kRandom);
}

void Sparsifier::dense_gradient_done(const LinearWeight& weight, std::int64_t step) {
  const std::size_t t = asked_.at(weight.dense_gradient_key());
  const Target& target = targets_[t];
  if (!refreshes(target, step) || !used_up_early(rules_[target.rule]))
    return;
  const Tensor& gradient = target.weight->dense_gradient();
  const Stream stream = gradient.stream();  // choose_next() may give the gradient up
  auto ahead =
      std::make_unique<Ahead>(Ahead{.target = t, .step = step, .bytes = gradient.nbytes()});
  ahead->looks = looks(target, /*refreshes=*/true, ahead->norms);
  ahead->norms.compute();
  if (stream.device.is_cuda()) {
    ahead->computed = std::make_unique<cuda::Mark>();
    ahead->computed->record(stream);
  }
  ahead_.push_back(std::move(ahead));
  auto held = [this] {
    return std::accumulate(ahead_.begin(), ahead_.end(), std::int64_t{0},
                           [](std::int64_t sum, const auto& a) { return sum + a->bytes; });
  };
  while (!ahead_.empty() && (stream.device.is_cpu() || held() > kHeldBytes)) choose_next();
}

void Sparsifier::choose_next() {
  const std::unique_ptr<Ahead> ahead = std::move(ahead_.front());
  ahead_.pop_front();
  LinearWeight& weight = *targets_[ahead->target].weight;
  if (reading_.allocator == nullptr)
    reading_ = reading_stream(weight.parameter().var.stream());
  if (ahead->computed != nullptr)
    ahead->computed->hold(reading_);
  ahead->norms.read(reading_);
  PoolScores scores;
  add_scores(ahead->target, ahead->step, ahead->looks, ahead->norms, scores);
  if (has_nan(scores.score) || has_nan(scores.growth))
    return;  // left to refresh(), which says so
  MaskBytes mask = refreshed_mask({ahead->target}, scores, ahead->step);
  weight.narrow_dense_gradient(mask);
  chosen_.emplace(ahead->target, std::move(mask));
}

// The new masks of all targets that refresh, by target; empty for the others.
std::vector<MaskBytes> Sparsifier::refreshed_masks(std::int64_t step) {
  BlockNorms norms;
  std::vector<Looks> looked(targets_.size());
  for (std::size_t t = 0; t < targets_.size(); ++t) {
    const bool open = refreshes(targets_[t], step) && !chosen_.contains(t);
    looked[t] = looks(targets_[t], open, norms);
  }
  norms.compute();
  norms.read(targets_.front().weight->parameter().var.stream());
  std::vector<MaskBytes> masks(targets_.size());
  for (std::size_t t = 0; t < targets_.size(); ++t) {
    if (rules_[targets_[t].rule].score == Score::kEma)
      update_average(targets_[t], looked[t], norms);
  }
  for_each_parallel(std::ssize(pools_), [&](std::size_t p) {
    const Pool& pool = pools_[p];
    if (!refreshes(targets_[pool.front()], step))
      return;
    const auto chosen = chosen_.find(pool.front());
    if (chosen != chosen_.end()) {
      masks[pool.front()] = chosen->second;
      return;
    }
    PoolScores scores;
    for (const std::size_t t : pool) add_scores(t, step, looked[t], norms, scores);
    const MaskBytes pooled = refreshed_mask(pool, scores, step);
    for (std::size_t i = 0; i < pool.size(); ++i) {
      masks[pool[i]].assign(pooled.begin() + scores.begin[i], pooled.begin() + scores.begin[i + 1]);
    }
  });
  return masks;
}

std::vector<PatternChange> Sparsifier::refresh(std::int64_t step) {
  if (!reads_gradients(step))
    return {};
  while (!ahead_.empty()) choose_next();
  const std::vector<MaskBytes> masks = refreshed_masks(step);
  std::vector<std::size_t> changed;
  std::vector<BlockMask> wanted;
  for (const Pool& pool : pools_) {
    for (const std::size_t t : pool) add_changes({t}, masks[t], changed, wanted);
  }
  const std::vector<PatternPtr> patterns =
      BsrPattern::of(wanted, targets_.front().weight->parameter().var.stream());
  std::vector<PatternChange> changes;
  for (std::size_t i = 0; i < changed.size(); ++i) {
    const Target& target = targets_[changed[i]];
    PatternChange change{.weight = target.weight,
                         .source = target.weight->set_pattern(patterns[i])};
    if (rules_[target.rule].score == Score::kEma)
      move_average(change);
    if (target.weight->storage() == Storage::kLiveBlocks)
      changes.push_back(std::move(change));
  }
  set_learning_rates();
  forget_dense_gradients();
  return changes;
}

void Sparsifier::move_average(const PatternChange& change) {
  std::vector<double>& average = averages_[change.weight->name()];
  std::vector<double> moved;
  for (const std::int64_t from : change.source) {
    moved.push_back(from < 0 ? 0.0 : average[static_cast<std::size_t>(from)]);
  }
  average = std::move(moved);
}

}  // namespace hew::sparsity
