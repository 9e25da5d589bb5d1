#include "sparsity/sparsifier.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "core/error.h"
#include "core/name_hash.h"
#include "kernels/elementwise.h"
#include "kernels/top_blocks.h"
#include "sparsity/block_scores.h"
#include "sparsity/schedule.h"
#include "sparsity/selection.h"

namespace hew::sparsity {
namespace {

constexpr std::string_view kBlockPrefix = "blocks.";

// N of a parameter name `blocks.N.…`, or −1.
std::int64_t transformer_block_of(std::string_view name) {
  if (!name.starts_with(kBlockPrefix))
    return -1;
  std::int64_t number = -1;
  std::from_chars(name.data() + kBlockPrefix.size(), name.data() + name.size(), number);
  return number;
}

bool kept_dense(const SparsityRule& rule, std::string_view name, std::int64_t blocks) {
  const std::int64_t block = transformer_block_of(name);
  return block >= 0 && (block < rule.keep_dense_first || block >= blocks - rule.keep_dense_last);
}

// Rules may share a top-k only if they decide alike.
bool same_slots(SparsityRule a, const SparsityRule& b) {
  a.match = b.match;
  a.method = b.method;
  a.keep_dense_first = b.keep_dense_first;
  a.keep_dense_last = b.keep_dense_last;
  return a == b;
}

BlockGrid grid_of(const LinearWeight& weight, std::int64_t block) {
  return {.rows = weight.out_features(), .cols = weight.in_features(), .block = block};
}

PatternPtr make_pattern(const BlockGrid& grid, const MaskBytes& mask, const Stream& stream) {
  return std::make_shared<const BsrPattern>(grid, mask, stream);
}

// The `keep` best of scores [R, C], on their device: the host does not wait.
PatternPtr top_pattern(const BlockGrid& grid, const Tensor& scores, std::int64_t keep) {
  const Stream& stream = scores.stream();
  Tensor wide = Tensor::empty({grid.blocks()}, DType::kFloat64, stream);
  kernels::cast(scores.reshape(wide.shape()), wide, stream);
  Tensor mask = Tensor::empty(wide.shape(), DType::kUInt8, stream);
  kernels::top_blocks(wide, keep, mask, stream);
  return std::make_shared<const BsrPattern>(grid, mask, keep);
}

const Stream& stream_of(const Sparsifier::Target& target) {
  return target.weight->parameter().var.stream();
}

}  // namespace

Sparsifier::Sparsifier(std::vector<SparsityRule> rules, const std::vector<LinearWeight*>& weights,
                       std::int64_t transformer_blocks, std::uint64_t seed)
    : rules_(std::move(rules)), seed_(seed) {
  std::vector<bool> used(rules_.size(), false);
  for (LinearWeight* weight : weights) {
    const auto rule = find_rule(rules_, weight->name());
    if (!rule)
      continue;
    used[*rule] = true;
    if (!kept_dense(rules_[*rule], weight->name(), transformer_blocks)) {
      targets_.push_back({.weight = weight, .rule = *rule});
    }
  }
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const std::string& origin = rules_[i].match_origin.text;
    require<ConfigError>(used[i], "{}: no linear weight is matched first by '{}'",
                         origin.empty() ? fmt::format("sparsity.{}.match", i) : origin,
                         fmt::join(rules_[i].match, "', '"));
  }
  build_pools();
}

void Sparsifier::build_pools() {
  std::map<std::string, std::size_t> pool_of;
  for (std::size_t t = 0; t < targets_.size(); ++t) {
    const SparsityRule& rule = rules_[targets_[t].rule];
    std::string key = "matrix:" + targets_[t].weight->name();
    if (rule.scope == Scope::kGroup)
      key = "group:" + rule.group;
    if (rule.scope == Scope::kGlobal)
      key = "global";
    const auto [entry, fresh] = pool_of.try_emplace(key, pools_.size());
    if (fresh)
      pools_.emplace_back();
    Pool& pool = pools_[entry->second];
    pool.push_back(t);
    require<ConfigError>(same_slots(rules_[targets_[pool.front()].rule], rule),
                         "sparsity.{} and sparsity.{} share one top-k but differ in their slots",
                         targets_[pool.front()].rule, targets_[t].rule);
  }
}

bool Sparsifier::selects(const Target& target) const {
  return selects_every_step(rules_[target.rule]) && target.weight->storage() == Storage::kMaster;
}

std::uint64_t Sparsifier::weight_key(const Target& target) const {
  return seed_ ^ name_hash(target.weight->name());
}

bool Sparsifier::frozen(const Target& target, std::int64_t step) const {
  const auto& freeze = rules_[target.rule].freeze_scores_at;
  return freeze.has_value() && step >= freeze->step;
}

bool Sparsifier::trains_mask(const Target& target, std::int64_t step) const {
  return selects(target) && !frozen(target, step);
}

double Sparsifier::wanted_sparsity(const Target& target, std::int64_t step) const {
  const SparsityRule& rule = rules_[target.rule];
  if (frozen(target, step))
    step = rule.freeze_scores_at->step;
  return sparsity_at(rule.schedule, step);
}

std::int64_t Sparsifier::wanted_blocks(const Pool& pool, std::int64_t step) const {
  std::int64_t blocks = 0;
  for (const std::size_t t : pool) {
    blocks += grid_of(*targets_[t].weight, rules_[targets_[t].rule].block).blocks();
  }
  const Target& first = targets_[pool.front()];
  const double sparsity = wanted_sparsity(first, step);
  return rules_[first.rule].score == Score::kLearned ? kept_blocks(blocks, sparsity)
                                                     : live_blocks(blocks, sparsity);
}

void Sparsifier::initialise() {
  for (const Pool& pool : pools_) choose_initial(pool);
}

void Sparsifier::choose_initial(const Pool& pool) {
  std::vector<double> scores;
  std::vector<std::int64_t> begin{0};
  std::vector<Tensor> learned_scores;
  for (const std::size_t t : pool) {
    const Target& target = targets_[t];
    const SparsityRule& rule = rules_[target.rule];
    const BlockGrid grid = grid_of(*target.weight, rule.block);
    const Tensor dense = target.weight->parameter().value();
    std::vector<double> own;
    if (rule.score == Score::kLearned) {
      learned_scores.push_back(initial_scores(grid, weight_key(target), dense));
      own = widen(learned_scores.back());
    } else if (rule.score == Score::kMagnitude || rule.score == Score::kSoftMagnitude) {
      BlockNorms norms;
      norms.add(dense, grid);
      norms.compute();
      norms.read(dense.stream());
      own = norms[0];
    } else {
      own = random_block_scores(grid, weight_key(target), 0);  // before any step
    }
    scores.insert(scores.end(), own.begin(), own.end());
    begin.push_back(static_cast<std::int64_t>(scores.size()));
  }
  const MaskBytes all_live(scores.size(), 1);
  const MaskBytes mask = prune_and_grow(
      {.live = all_live, .score = scores, .wanted = wanted_blocks(pool, 0), .matrix_begin = begin});
  for (std::size_t i = 0; i < pool.size(); ++i) {
    const Target& target = targets_[pool[i]];
    const SparsityRule& rule = rules_[target.rule];
    const PatternPtr pattern =
        make_pattern(grid_of(*target.weight, rule.block),
                     MaskBytes(mask.begin() + begin[i], mask.begin() + begin[i + 1]),
                     target.weight->parameter().var.stream());
    if (rule.weights == Weights::kLive) {
      target.weight->keep_live_blocks(pattern);
    } else {
      target.weight->mask_master(pattern, learned_scores.empty() ? Tensor() : learned_scores[i]);
    }
    if (rule.score == Score::kEma) {
      averages_[target.weight->name()].assign(static_cast<std::size_t>(pattern->nnzb()), 0.0);
    }
  }
}

bool Sparsifier::may_grow(const Pool& pool, std::int64_t step) const {
  const SparsityRule& rule = rules_[targets_[pool.front()].rule];
  const bool grows =
      rule.growth != Growth::kNone && rule.regrow != Regrow::kNone && step < rule.schedule.end.step;
  std::int64_t live = 0;
  for (const std::size_t t : pool) live += targets_[t].weight->pattern()->nnzb();
  return grows || wanted_blocks(pool, step) > live;
}

std::vector<StorageChange> Sparsifier::begin_step(std::int64_t step) {
  forget_dense_gradients();
  select_trained_masks(step);
  std::vector<Target> freezing;
  std::ranges::copy_if(targets_, std::back_inserter(freezing), [&](const Target& target) {
    return selects(target) && frozen(target, step);
  });
  std::vector<StorageChange> changes = fold(freezing);
  for (const Pool& pool : pools_) {
    const Target& first = targets_[pool.front()];
    if (selects_every_step(rules_[first.rule]) || !refreshes_at(rules_[first.rule], step) ||
        !may_grow(pool, step)) {
      continue;
    }
    for (const std::size_t t : pool) {
      targets_[t].weight->request_dense_gradient();
      asked_.emplace(targets_[t].weight->dense_gradient_key(), t);
    }
  }
  set_learning_rates();
  return changes;
}

// By the live blocks that the coming update moves.
void Sparsifier::set_learning_rates() {
  for (const Target& target : targets_) {
    const BsrPattern& pattern = *target.weight->pattern();
    const double share =
        static_cast<double>(pattern.grid().blocks()) / static_cast<double>(pattern.nnzb());
    target.weight->parameter().lr_factor = std::pow(share, rules_[target.rule].lr_power);
  }
}

std::vector<StorageChange> Sparsifier::fold_masks() {
  std::vector<Target> open;
  std::ranges::copy_if(targets_, std::back_inserter(open),
                       [this](const Target& target) { return selects(target); });
  return fold(open);
}

std::vector<StorageChange> Sparsifier::fold(const std::vector<Target>& targets) const {
  std::vector<StorageChange> changes;
  std::vector<BlockMask> masks;
  for (const Target& target : targets) {
    LinearWeight& weight = *target.weight;
    changes.push_back(
        {.weight = &weight, .scores_name = weight.scores().name, .soft = weight.soft_mask()});
    masks.push_back({.grid = weight.pattern()->grid(), .mask = weight.pattern()->mask()});
  }
  if (changes.empty())
    return changes;
  // These stay, and have what kernels want to know about them.
  const std::vector<PatternPtr> patterns = BsrPattern::of(masks, stream_of(targets.front()));
  for (std::size_t i = 0; i < changes.size(); ++i) changes[i].weight->drop_dead_blocks(patterns[i]);
  return changes;
}

MaskBytes Sparsifier::pooled_mask(const Pool& pool, std::int64_t step) const {
  std::vector<double> scores;
  std::vector<std::int64_t> begin{0};
  for (const std::size_t t : pool) {
    const std::vector<double> own = widen(targets_[t].weight->scores().value());
    scores.insert(scores.end(), own.begin(), own.end());
    begin.push_back(static_cast<std::int64_t>(scores.size()));
  }
  const MaskBytes all_live(scores.size(), 1);
  return prune_and_grow({.live = all_live,
                         .score = scores,
                         .wanted = wanted_blocks(pool, step),
                         .matrix_begin = begin});
}

void Sparsifier::select_trained_masks(std::int64_t step) {
  std::vector<std::size_t> soft;
  std::vector<std::size_t> changed;
  std::vector<BlockMask> masks;
  for (const Pool& pool : pools_) {
    const Target& first = targets_[pool.front()];
    LinearWeight& weight = *first.weight;
    if (!selects(first))
      continue;
    if (rules_[first.rule].score == Score::kSoftMagnitude) {
      soft.push_back(pool.front());
    } else if (pool.size() > 1) {
      add_changes(pool, pooled_mask(pool, step), changed, masks);
    } else {
      weight.set_mask(top_pattern(weight.pattern()->grid(), weight.scores().value(),
                                  wanted_blocks(pool, step)));
    }
  }
  select_soft_masks(soft, step);
  if (changed.empty())
    return;
  const std::vector<PatternPtr> patterns = BsrPattern::of(masks, stream_of(targets_.front()));
  for (std::size_t i = 0; i < changed.size(); ++i)
    targets_[changed[i]].weight->set_mask(patterns[i]);
}

void Sparsifier::select_soft_masks(const std::vector<std::size_t>& targets, std::int64_t step) {
  std::vector<SoftMaskRequest> requests;
  for (const std::size_t t : targets) {
    const LinearWeight& weight = *targets_[t].weight;
    const SparsityRule& rule = rules_[targets_[t].rule];
    requests.push_back({.weight = weight.parameter().value(),
                        .grid = weight.pattern()->grid(),
                        .keep = wanted_blocks({t}, step),
                        .sharpness = sharpness_at(rule.sharpness, step)});
  }
  const std::vector<SoftMask> masks = soft_masks(requests);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const auto& [weight, grid, keep, sharpness] = requests[i];
    targets_[targets[i]].weight->set_mask(top_pattern(grid, masks[i].norms, keep), masks[i]);
  }
}

// Adds those of the pool whose mask is another now.
void Sparsifier::add_changes(const Pool& pool, std::span<const std::uint8_t> pooled,
                             std::vector<std::size_t>& targets,
                             std::vector<BlockMask>& masks) const {
  for (const std::size_t t : pool) {
    const BsrPattern& pattern = *targets_[t].weight->pattern();
    if (pooled.empty())
      continue;
    const auto own = pooled.first(static_cast<std::size_t>(pattern.grid().blocks()));
    pooled = pooled.subspan(own.size());
    MaskBytes mask(own.begin(), own.end());
    if (mask == pattern.mask())
      continue;
    targets.push_back(t);
    masks.push_back({.grid = pattern.grid(), .mask = std::move(mask)});
  }
}

}  // namespace hew::sparsity
