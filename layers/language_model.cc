#include "layers/language_model.h"

#include <utility>

#include "autograd/cross_entropy.h"
#include "autograd/dropout.h"
#include "autograd/elementwise.h"
#include "autograd/embedding.h"
#include "autograd/linear.h"
#include "autograd/linear_cross_entropy.h"
#include "autograd/rearrange.h"
#include "autograd/recompute.h"
#include "core/error.h"
#include "core/profiler.h"

namespace hew::layers {
namespace {

Norm::Options norm_options(const ModelConfig& config) {
  const bool rms = config.family == ModelFamily::kLlama;
  return {.kind = rms ? NormKind::kRmsNorm : NormKind::kLayerNorm,
          .width = config.width,
          .eps = config.norm_eps,
          .bias = config.bias};
}

ag::Parameter embedding_table(const std::string& name, std::int64_t rows, const ModelConfig& config,
                              const Initializer& init) {
  return {.name = name,
          .var = ag::Variable(init.normal(name, {rows, config.width}, config.init_std),
                              /*requires_grad=*/true),
          .weight_decay = name == "token_embedding.weight"};
}

// Elements are numbered by the global batch: x has `tokens` rows a sample.
ag::Variable drop(const ag::Variable& x, double p, std::int64_t tokens,
                  ag::ForwardContext& context) {
  constexpr std::uint64_t kCallsPerStep = 1U << 16U;
  const std::uint64_t call = context.dropout_calls++;
  if (!context.training || p == 0)
    return x;
  const std::int64_t per_sample = tokens * x.size(1);
  return ag::dropout(
      x, {.p = p,
          .key = context.seed,
          .stream = context.step * kCallsPerStep + call,
          .first_element = static_cast<std::uint64_t>(context.first_sample * per_sample)});
}

}  // namespace

TransformerBlock::TransformerBlock(const std::string& name, const ModelConfig& config,
                                   const Initializer& init)
    : name_(name),
      dropout_(config.dropout),
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
      norm2_.forward(first.sum, drop(attended, dropout_, shape.tokens, context), context);
  return {.x = second.sum,
          .branch = drop(mlp_.forward(second.normed, context), dropout_, shape.tokens, context)};
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

LanguageModel::LanguageModel(const ModelConfig& config, const Initializer& init)
    : config_(config), final_norm_("final_norm", norm_options(config), init) {
  require<ConfigError>(config.heads > 0 && config.width % config.heads == 0 &&
                           config.kv_heads > 0 && config.heads % config.kv_heads == 0,
                       "[model] width {} does not divide into {} heads over {} key-value heads",
                       config.width, config.heads, config.kv_heads);
  require<ConfigError>(config.vocab > 0, "[model] the vocabulary is empty");
  token_embedding_ = embedding_table("token_embedding.weight", config.vocab, config, init);
  if (config.family == ModelFamily::kGpt2) {
    position_embedding_ =
        embedding_table("position_embedding.weight", config.context, config, init);
  }
  for (std::int64_t i = 0; i < config.layers; ++i) {
    blocks_.push_back(
        std::make_unique<TransformerBlock>(fmt::format("blocks.{}", i), config, init));
  }
  if (!config.tied_embeddings) {
    head_ = std::make_unique<Linear>("head",
                                     Linear::Options{.in_features = config.width,
                                                     .out_features = config.vocab,
                                                     .bias = false,
                                                     .init_std = config.init_std},
                                     init);
  }
}

ag::Variable LanguageModel::embed(const Tensor& ids, const SequenceShape& shape,
                                  ag::ForwardContext& context) const {
  ag::Variable x = ag::embedding(ids, context.use(token_embedding_));  // [B, T, C]
  if (position_embedding_.var)
    x = ag::add_rows(x, context.use(position_embedding_), shape.position);
  x = ag::reshape(x, {shape.batch * shape.tokens, config_.width});
  return drop(x, config_.dropout, shape.tokens, context);
}

Residual LanguageModel::recomputed_block(const TransformerBlock& block, const Residual& in,
                                         const SequenceShape& shape,
                                         ag::ForwardContext& context) const {
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

ag::Variable LanguageModel::hidden(const Tensor& ids, ag::ForwardContext& context,
                                   KvCache* cache) const {
  const SequenceShape shape{.batch = ids.size(0),
                            .tokens = ids.size(1),
                            .position = cache == nullptr ? 0 : cache->length};
  const std::int64_t limit = cache == nullptr ? config_.context : cache->capacity;
  require<ShapeError>(shape.position + shape.tokens <= limit,
                      "[language_model] {} tokens after {}, the limit is {}", shape.tokens,
                      shape.position, limit);
  context.dropout_calls = 0;
  Residual stream{.x = embed(ids, shape, context), .branch = {}};
  if (cache != nullptr)
    cache->layers.resize(blocks_.size());
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const NamedRange range(ids.stream(), blocks_[i]->name());
    if (context.training && context.recompute_blocks) {
      stream = recomputed_block(*blocks_[i], stream, shape, context);
    } else {
      stream = blocks_[i]->forward(stream, shape, cache == nullptr ? nullptr : &cache->layers[i],
                                   limit, context);
    }
  }
  if (cache != nullptr)
    cache->length += shape.tokens;
  return final_norm_.forward(stream.x, stream.branch, context).normed;
}

ag::Variable LanguageModel::forward(const Tensor& ids, ag::ForwardContext& context,
                                    KvCache* cache) const {
  const ag::Variable x = hidden(ids, context, cache);
  if (head_)
    return head_->forward(x, context);
  return ag::linear(x, context.use(token_embedding_), ag::Variable(), kernels::Activation::kNone);
}

ag::Variable LanguageModel::loss(const Tensor& ids, const Tensor& targets, double scale,
                                 ag::ForwardContext& context) const {
  const ag::Variable x = hidden(ids, context, nullptr);
  const Tensor flat = targets.reshape({targets.numel()});
  if (head_ && head_->weight().storage() != sparsity::Storage::kDense)
    return ag::cross_entropy(head_->forward(x, context), flat, scale);
  const ag::Parameter& table = head_ ? head_->weight().parameter() : token_embedding_;
  return ag::linear_cross_entropy(x, context.use(table), flat, {.scale = scale});
}

std::vector<ag::Parameter*> LanguageModel::parameters() {
  std::vector<ag::Parameter*> out{&token_embedding_};
  if (position_embedding_.var)
    out.push_back(&position_embedding_);
  for (const auto& block : blocks_) block->collect_parameters(out);
  final_norm_.collect_parameters(out);
  if (head_)
    head_->collect_parameters(out);
  return out;
}

std::vector<sparsity::LinearWeight*> LanguageModel::linear_weights() {
  std::vector<sparsity::LinearWeight*> out;
  for (const auto& block : blocks_) block->collect_weights(out);
  if (head_)
    out.push_back(&head_->weight());
  return out;
}

const LanguageModel& as_language_model(const Model& model) {
  const auto* language = dynamic_cast<const LanguageModel*>(&model);
  require<ConfigError>(language != nullptr, "[model] a {} is no language model",
                       name_of(model.config().family));
  return *language;
}

LanguageModel& as_language_model(Model& model) {
  as_language_model(std::as_const(model));  // throws
  return static_cast<LanguageModel&>(model);
}

}  // namespace hew::layers
