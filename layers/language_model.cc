#include "layers/language_model.h"

#include <utility>

#include "autograd/cross_entropy.h"
#include "autograd/elementwise.h"
#include "autograd/embedding.h"
#include "autograd/linear.h"
#include "autograd/linear_cross_entropy.h"
#include "autograd/rearrange.h"
#include "core/error.h"

namespace hew::layers {
namespace {

ag::Parameter embedding_table(const std::string& name, std::int64_t rows, const ModelConfig& config,
                              const Initializer& init) {
  return {.name = name,
          .var = ag::Variable(init.normal(name, {rows, config.width}, config.init_std),
                              /*requires_grad=*/true),
          .weight_decay = name == "token_embedding.weight"};
}

}  // namespace

LanguageModel::LanguageModel(const ModelConfig& config, const Initializer& init)
    : config_(config),
      blocks_(config, init),
      final_norm_("final_norm", norm_options(config), init) {
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
  return drop(x, {.element = config_.dropout}, shape.tokens, context);
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
  const Residual stream = blocks_.forward(embed(ids, shape, context), shape, cache, context);
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
  blocks_.collect_parameters(out);
  final_norm_.collect_parameters(out);
  if (head_)
    head_->collect_parameters(out);
  return out;
}

std::vector<sparsity::LinearWeight*> LanguageModel::linear_weights() {
  std::vector<sparsity::LinearWeight*> out;
  blocks_.collect_weights(out);
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
