#include "layers/language_model.h"

#include "autograd/dropout.h"
#include "autograd/elementwise.h"
#include "autograd/embedding.h"
#include "autograd/linear.h"
#include "autograd/rearrange.h"
#include "core/error.h"

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
    : dropout_(config.dropout),
      norm1_(name + ".norm1", norm_options(config), init),
      attention_(name + ".attn", config, init),
      norm2_(name + ".norm2", norm_options(config), init),
      mlp_(name + ".mlp", config, init) {}

ag::Variable TransformerBlock::forward(const ag::Variable& x, const SequenceShape& shape,
                                       KvCache::Layer* cache, std::int64_t cache_capacity,
                                       ag::ForwardContext& context) const {
  const ag::Variable attended =
      attention_.forward(norm1_.forward(x, context), shape, cache, cache_capacity, context);
  const ag::Variable middle = ag::add(x, drop(attended, dropout_, shape.tokens, context));
  const ag::Variable expanded = mlp_.forward(norm2_.forward(middle, context), context);
  return ag::add(middle, drop(expanded, dropout_, shape.tokens, context));
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

ag::Variable LanguageModel::forward(const Tensor& ids, ag::ForwardContext& context,
                                    KvCache* cache) const {
  const SequenceShape shape{.batch = ids.size(0),
                            .tokens = ids.size(1),
                            .position = cache == nullptr ? 0 : cache->length};
  const std::int64_t limit = cache == nullptr ? config_.context : cache->capacity;
  require<ShapeError>(shape.position + shape.tokens <= limit,
                      "[language_model] {} tokens after {}, the limit is {}", shape.tokens,
                      shape.position, limit);
  context.dropout_calls = 0;
  ag::Variable x = ag::embedding(ids, context.use(token_embedding_));  // [B, T, C]
  if (position_embedding_.var) {
    x = ag::add_rows(x, context.use(position_embedding_), shape.position);
  }
  x = ag::reshape(x, {shape.batch * shape.tokens, config_.width});
  x = drop(x, config_.dropout, shape.tokens, context);
  if (cache != nullptr)
    cache->layers.resize(blocks_.size());
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    x = blocks_[i]->forward(x, shape, cache == nullptr ? nullptr : &cache->layers[i], limit,
                            context);
  }
  if (cache != nullptr)
    cache->length += shape.tokens;
  x = final_norm_.forward(x, context);
  if (head_)
    return head_->forward(x, context);
  return ag::linear(x, context.use(token_embedding_), ag::Variable(), kernels::Activation::kNone);
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

}  // namespace hew::layers
