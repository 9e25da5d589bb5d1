#include "layers/transformer_block.h"

#include <algorithm>

#include "autograd/drop_path.h"
#include "autograd/dropout.h"
#include "autograd/elementwise.h"
#include "autograd/rearrange.h"
#include "autograd/recompute.h"
#include "core/error.h"
#include "core/profiler.h"

namespace hew::layers {
namespace {

Residual recomputed(const TransformerBlock& block, const Residual& in, const SequenceShape& shape,
                    ag::ForwardContext& context) {
  const ag::Variable x = in.branch ? ag::add(in.x, in.branch) : in.x;
  // The second time, dropout draws what it drew the first time.
  const ag::ForwardContext before = context;
  auto segment = [&block, shape, before](const ag::Variable& input, bool taped) {
    ag::ForwardContext own = before;
    own.taped = taped;
    const Residual out = block.forward({.x = input, .branch = {}}, shape, nullptr, 0, own);
    return ag::add(out.x, out.branch);
  };
  context.dropout_calls += TransformerBlock::kDropoutCalls;
  return {.x = ag::recomputed("block", x, segment), .branch = {}};
}

}  // namespace

Norm::Options norm_options(const ModelConfig& config) {
  const bool rms = config.family == ModelFamily::kLlama;
  return {.kind = rms ? NormKind::kRmsNorm : NormKind::kLayerNorm,
          .width = config.width,
          .eps = config.norm_eps,
          .bias = config.bias};
}

ag::Variable drop(const ag::Variable& x, const DropRates& rates, std::int64_t tokens,
                  ag::ForwardContext& context) {
  constexpr std::uint64_t kCallsPerStep = 1U << 16U;
  constexpr std::uint64_t kSampleCalls = kCallsPerStep / 2;  // draws of their own
  const std::uint64_t stream = context.step * kCallsPerStep + context.dropout_calls++;
  if (!context.training)
    return x;
  ag::Variable y = x;
  const std::int64_t width = x.size(1);
  if (rates.element > 0) {
    const std::int64_t first = context.first_sample * tokens * width;
    y = ag::dropout(y, {.p = rates.element,
                        .key = context.seed,
                        .stream = stream,
                        .first_element = static_cast<std::uint64_t>(first)});
  }
  if (rates.sample > 0) {
    const ag::Variable samples = ag::reshape(y, {x.size(0) / tokens, tokens, width});
    y = ag::drop_path(samples, {.p = rates.sample,
                                .key = context.seed,
                                .stream = stream + kSampleCalls,
                                .first_sample = static_cast<std::uint64_t>(context.first_sample)});
    y = ag::reshape(y, x.shape());
  }
  return y;
}

TransformerBlock::TransformerBlock(const std::string& name, double depth, const ModelConfig& config,
                                   const Initializer& init)
    : name_(name),
      drop_{.element = config.dropout, .sample = config.drop_path * depth},
      norm1_(name + ".norm1", norm_options(config), init),
      attention_(name + ".attn", config, init),
      norm2_(name + ".norm2", norm_options(config), init),
      mlp_(name + ".mlp", config, init) {}

Residual TransformerBlock::forward(const Residual& in, const SequenceShape& shape,
                                   KvCache::Layer* cache, std::int64_t cache_capacity,
                                   ag::ForwardContext& context) const {
  const ag::AddedNorm first = norm1_.forward(in.x, in.branch, context);
  const ag::Variable attended =
      attention_.forward(first.normed, shape, cache, cache_capacity, context);
  const ag::AddedNorm second =
      norm2_.forward(first.sum, drop(attended, drop_, shape.tokens, context), context);
  return {.x = second.sum,
          .branch = drop(mlp_.forward(second.normed, context), drop_, shape.tokens, context)};
}

void TransformerBlock::collect_parameters(std::vector<ag::Parameter*>& out) {
  norm1_.collect_parameters(out);
  attention_.collect_parameters(out);
  norm2_.collect_parameters(out);
  mlp_.collect_parameters(out);
}

void TransformerBlock::collect_weights(std::vector<sparsity::LinearWeight*>& out) {
  attention_.collect_weights(out);
  mlp_.collect_weights(out);
}

TransformerBlocks::TransformerBlocks(const ModelConfig& config, const Initializer& init) {
  const auto last = static_cast<double>(std::max<std::int64_t>(config.layers - 1, 1));
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const double depth = static_cast<double>(i) / last;
    blocks_.push_back(
        std::make_unique<TransformerBlock>(fmt::format("blocks.{}", i), depth, config, init));
  }
}

Residual TransformerBlocks::forward(const ag::Variable& in, const SequenceShape& shape,
                                    KvCache* cache, ag::ForwardContext& context) const {
  Residual stream{.x = in, .branch = {}};
  if (cache != nullptr)
    cache->layers.resize(blocks_.size());
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const NamedRange range(in.stream(), blocks_[i]->name());
    if (context.training && context.recompute_blocks) {
      stream = recomputed(*blocks_[i], stream, shape, context);
    } else {
      stream = blocks_[i]->forward(stream, shape, cache == nullptr ? nullptr : &cache->layers[i],
                                   cache == nullptr ? 0 : cache->capacity, context);
    }
  }
  return stream;
}

void TransformerBlocks::collect_parameters(std::vector<ag::Parameter*>& out) {
  for (const auto& block : blocks_) block->collect_parameters(out);
}

void TransformerBlocks::collect_weights(std::vector<sparsity::LinearWeight*>& out) {
  for (const auto& block : blocks_) block->collect_weights(out);
}

}  // namespace hew::layers
