#include "sparsity/linear_weight.h"

#include <algorithm>

#include "autograd/linear.h"
#include "core/error.h"
#include "kernels/blocks.h"
#include "sparsity/sparse_linear.h"

namespace hew::sparsity {
namespace {

// Block p of the result is block source[p] of `values`; new blocks are 0, or what `fresh` has
// there.
Tensor move_blocks(const Tensor& values, const std::vector<std::int64_t>& source,
                   const Tensor& fresh) {
  const std::int64_t b = values.size(1);
  const auto count = static_cast<std::int64_t>(source.size());
  Tensor moved =
      fresh.defined() ? fresh : Tensor::zeros({count, b, b}, values.dtype(), values.stream());
  kernels::move_blocks(values, Tensor::from(source, {count}, values.stream()), moved,
                       values.stream());
  return moved;
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
      return sparse_linear({.x = x,
                            .values = context.use(weight_),
                            .probe = context.training ? probe_ : ag::Variable(),
                            .bias = bias,
                            .pattern = pattern_,
                            .activation = activation});
    case Storage::kMaster:
      return masked_linear(
          {.x = x,
           .weight = context.use_master(weight_.var),
           .scores = scores_.var ? context.use_master(scores_.var) : ag::Variable(),
           .probe = context.training ? probe_ : ag::Variable(),
           .bias = bias,
           .pattern = pattern_,
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
          .pattern = pattern_};
}

void LinearWeight::keep_live_blocks(const PatternPtr& pattern) {
  require<Error>(storage_ == Storage::kDense, "[linear_weight] {} is not dense", name_);
  restore(Storage::kLiveBlocks, pattern, gather(weight_.value(), *pattern), Tensor());
}

void LinearWeight::mask_master(const PatternPtr& pattern, const Tensor& scores) {
  require<Error>(storage_ == Storage::kDense, "[linear_weight] {} is not dense", name_);
  restore(Storage::kMaster, pattern, weight_.value(), scores);
}

void LinearWeight::drop_dead_blocks() {
  require<Error>(storage_ == Storage::kMaster, "[linear_weight] {} has no master", name_);
  restore(Storage::kLiveBlocks, pattern_, gather(weight_.value(), *pattern_), Tensor());
}

void LinearWeight::restore(Storage storage, const PatternPtr& pattern, const Tensor& values,
                           const Tensor& scores) {
  storage_ = storage;
  pattern_ = pattern;
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
  const Tensor dense_grad = probe_ ? probe_.grad() : Tensor();
  const Tensor grad = weight_.var.grad();
  if (storage_ == Storage::kMaster) {
    const Tensor& full = dense_grad.defined() ? dense_grad : grad;
    if (full.defined())
      weight_.var.grad() = scatter(gather(full, *pattern), *pattern);
  } else {
    weight_.var = ag::Variable(move_blocks(weight_.value(), source, Tensor()),
                               /*requires_grad=*/true);
    if (grad.defined()) {
      weight_.var.grad() =
          move_blocks(grad, source, dense_grad.defined() ? gather(dense_grad, *pattern) : Tensor());
    }
  }
  pattern_ = pattern;
  return source;
}

void LinearWeight::set_mask(const PatternPtr& pattern) {
  require<Error>(storage_ == Storage::kMaster, "[linear_weight] {} has no master", name_);
  pattern_ = pattern;
}

void LinearWeight::request_dense_gradient() {
  const Tensor& held = weight_.value();
  probe_ = ag::Variable(Tensor::meta({out_features_, in_features_}, held.dtype(), held.stream()),
                        /*requires_grad=*/true);
}

Tensor LinearWeight::folded() const {
  if (storage_ == Storage::kDense)
    return weight_.value();
  return scatter(live_values(), *pattern_);
}

Tensor LinearWeight::live_values() const {
  require<Error>(pattern_ != nullptr, "[linear_weight] {} is dense", name_);
  return storage_ == Storage::kLiveBlocks ? weight_.value() : gather(weight_.value(), *pattern_);
}

}  // namespace hew::sparsity
