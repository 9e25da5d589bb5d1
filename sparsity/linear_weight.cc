#include "sparsity/linear_weight.h"

#include <algorithm>

#include "autograd/linear.h"
#include "core/error.h"
#include "kernels/blocks.h"
#include "sparsity/sparse_linear.h"

namespace hew::sparsity {
namespace {

void move_blocks(const Tensor& values, const std::vector<std::int64_t>& source, Tensor& moved) {
  const Stream& stream = values.stream();
  kernels::move_blocks(values, Tensor::from(source, {std::ssize(source)}, stream), moved, stream);
}

}  // namespace

LinearWeight::LinearWeight(std::string name, const Tensor& dense)
    : name_(std::move(name)),
      out_features_(dense.size(0)),
      in_features_(dense.size(1)),
      weight_{
          .name = name_, .var = ag::Variable(dense, /*requires_grad=*/true), .weight_decay = true} {
}

void LinearWeight::collect_parameters(std::vector<ag::Parameter*>& out) {
  out.push_back(&weight_);
  if (has_scores())
    out.push_back(&scores_);
}

ag::Variable LinearWeight::product(const ag::Variable& x, const ag::Variable& bias,
                                   kernels::Activation activation,
                                   const ag::ForwardContext& context) const {
  switch (storage_) {
    case Storage::kDense:
      return ag::linear(x, context.use(weight_), bias, activation);
    case Storage::kLiveBlocks:
      return sparse_linear({.x = x, .layer = live_layer(bias, context), .activation = activation});
    case Storage::kMaster:
      return masked_linear(
          {.x = x,
           .weight = context.use_master(weight_.var),
           .scores = scores_.var ? context.use_master(scores_.var) : ag::Variable(),
           .probe = context.training ? probe_ : ag::Variable(),
           .bias = bias,
           .pattern = pattern_,
           .soft = soft_,
           .activation = activation});
  }
  throw Error("[linear_weight] unknown storage");
}

SparseLayer LinearWeight::live_layer(const ag::Variable& bias,
                                     const ag::ForwardContext& context) const {
  require<Error>(storage_ == Storage::kLiveBlocks, "[linear_weight] {} holds no live blocks",
                 name_);
  return {.values = context.use(weight_),
          .probe = context.training ? probe_ : ag::Variable(),
          .bias = bias,
          .pattern = pattern_,
          .folded = context.leaf_of(weight_).folded()};
}

void LinearWeight::keep_live_blocks(const PatternPtr& pattern) {
  require<Error>(storage_ == Storage::kDense, "[linear_weight] {} is not dense", name_);
  restore(Storage::kLiveBlocks, pattern, gather(weight_.value(), *pattern), Tensor());
}

void LinearWeight::mask_master(const PatternPtr& pattern, const Tensor& scores) {
  require<Error>(storage_ == Storage::kDense, "[linear_weight] {} is not dense", name_);
  restore(Storage::kMaster, pattern, weight_.value(), scores);
}

void LinearWeight::drop_dead_blocks(const PatternPtr& pattern) {
  require<Error>(storage_ == Storage::kMaster, "[linear_weight] {} has no master", name_);
  pattern_ = pattern;
  restore(Storage::kLiveBlocks, pattern, live_values(), Tensor());
}

void LinearWeight::restore(Storage storage, const PatternPtr& pattern, const Tensor& values,
                           const Tensor& scores) {
  storage_ = storage;
  pattern_ = pattern;
  soft_ = {};
  weight_.var = ag::Variable(values, /*requires_grad=*/true);
  scores_ = {};
  if (scores.defined()) {
    scores_ = {.name = name_ + ".scores",
               .var = ag::Variable(scores, /*requires_grad=*/true),
               .weight_decay = true};
  }
}

std::vector<std::int64_t> LinearWeight::set_pattern(const PatternPtr& pattern) {
  require<Error>(pattern_ != nullptr, "[linear_weight] {} has no pattern to move from", name_);
  std::vector<std::int64_t> source = pattern->sources_in(*pattern_);
  const Tensor gradient = next_gradient(*pattern, source);
  if (storage_ == Storage::kLiveBlocks) {
    const Tensor& old = weight_.value();
    Tensor values =
        Tensor::zeros({pattern->nnzb(), old.size(1), old.size(2)}, old.dtype(), old.stream());
    move_blocks(old, source, values);
    weight_.var = ag::Variable(values, /*requires_grad=*/true);
  }
  weight_.var.grad() = gradient;
  narrowed_ = Tensor();
  pattern_ = pattern;
  return source;
}

void LinearWeight::set_mask(const PatternPtr& pattern, const SoftMask& soft) {
  require<Error>(storage_ == Storage::kMaster, "[linear_weight] {} has no master", name_);
  pattern_ = pattern;
  soft_ = soft;
}

void LinearWeight::request_dense_gradient() {
  const Tensor& held = weight_.value();
  probe_ = ag::Variable(Tensor::meta({out_features_, in_features_}, held.dtype(), held.stream()),
                        /*requires_grad=*/true);
}

// The parameter's gradient once `next` is the pattern; undefined if it has none.
Tensor LinearWeight::next_gradient(const BsrPattern& next,
                                   const std::vector<std::int64_t>& source) const {
  const Tensor& own = weight_.var.grad();
  const Tensor dense = probe_ ? probe_.grad() : Tensor();
  if (storage_ == Storage::kMaster) {
    if (narrowed_.defined())
      return scatter(narrowed_, next);
    const Tensor& full = dense.defined() ? dense : own;
    return full.defined() ? scatter(gather(full, next), next) : Tensor();
  }
  if (!own.defined())
    return {};
  const Shape shape{next.nnzb(), own.size(1), own.size(2)};
  Tensor gradient =
      dense.defined() ? gather(dense, next) : Tensor::zeros(shape, own.dtype(), own.stream());
  move_blocks(own, source, gradient);
  if (narrowed_.defined()) {
    std::vector<std::int64_t> kept(source.size(), -1);
    std::int64_t fresh = 0;
    for (std::size_t p = 0; p < source.size(); ++p) {
      if (source[p] < 0)
        kept[p] = fresh++;
    }
    require<ShapeError>(narrowed_.size(0) == fresh,
                        "[linear_weight] {}: gradients of {} new blocks were kept, expected {}",
                        name_, narrowed_.size(0), fresh);
    move_blocks(narrowed_, kept, gradient);
  }
  return gradient;
}

void LinearWeight::narrow_dense_gradient(const MaskBytes& next) {
  require<Error>(probe_ && probe_.grad().defined(), "[linear_weight] {} has no dense gradient",
                 name_);
  MaskBytes kept = next;
  if (storage_ == Storage::kLiveBlocks) {
    for (const std::int64_t block : pattern_->live_blocks())
      kept[static_cast<std::size_t>(block)] = 0;
  }
  const auto count = std::count(kept.begin(), kept.end(), std::uint8_t{1});
  const Tensor mask = Tensor::from(kept, {std::ssize(kept)}, probe_.grad().stream());
  narrowed_ = gather(probe_.grad(), BsrPattern(pattern_->grid(), mask, count));
  probe_.zero_grad();
}

void LinearWeight::clear_dense_gradient() {
  probe_ = ag::Variable();
  narrowed_ = Tensor();
}

Tensor LinearWeight::folded() const {
  if (storage_ == Storage::kDense)
    return weight_.value();
  return scatter(live_values(), *pattern_);
}

Tensor LinearWeight::live_values() const {
  require<Error>(pattern_ != nullptr, "[linear_weight] {} is dense", name_);
  if (storage_ == Storage::kLiveBlocks)
    return weight_.value();
  const Tensor& master = weight_.value();
  return gather(soft_.defined() ? softened(master, soft_, pattern_->grid().block) : master,
                *pattern_);
}

}  // namespace hew::sparsity
