#include "layers/attention.h"

#include <cmath>

#include "autograd/attention.h"
#include "autograd/rearrange.h"
#include "autograd/rotary.h"
#include "core/error.h"

namespace hew::layers {
namespace {

Linear::Options projection(const ModelConfig& config, std::int64_t in, std::int64_t out) {
  return {.in_features = in,
          .out_features = out,
          .bias = config.bias,
          .activation = kernels::Activation::kNone,
          .init_std = config.init_std};
}

Linear::Options residual_projection(const ModelConfig& config, std::int64_t in) {
  Linear::Options options = projection(config, in, config.width);
  options.init_std = config.residual_init_std();
  return options;
}

// Writes x [1, T, H, D] behind the `position` tokens held and returns all of them.
ag::Variable append(Tensor& held, const ag::Variable& x, std::int64_t position,
                    std::int64_t capacity) {
  const std::int64_t tokens = x.size(1);
  const std::int64_t heads = x.size(2);
  const std::int64_t width = x.size(3);
  if (!held.defined())
    held = Tensor::empty({capacity, heads, width}, x.dtype(), x.stream());
  held.rows(position, tokens).copy_from(x.value().reshape({tokens, heads, width}));
  return ag::Variable(
      held.rows(0, position + tokens).reshape({1, position + tokens, heads, width}));
}

}  // namespace

SelfAttention::SelfAttention(const std::string& name, const ModelConfig& config,
                             const Initializer& init)
    : heads_(config.heads),
      kv_heads_(config.kv_heads),
      head_width_(config.head_width()),
      causal_(!config.reads_images()),
      rotary_(config.family == ModelFamily::kLlama),
      rope_theta_(config.rope_theta),
      q_(name + ".q", projection(config, config.width, heads_ * head_width_), init),
      k_(name + ".k", projection(config, config.width, kv_heads_ * head_width_), init),
      v_(name + ".v", projection(config, config.width, kv_heads_ * head_width_), init),
      out_(name + ".out", residual_projection(config, heads_ * head_width_), init) {}

ag::Variable SelfAttention::forward(const ag::Variable& x, const SequenceShape& shape,
                                    KvCache::Layer* cache, std::int64_t cache_capacity,
                                    const ag::ForwardContext& context) const {
  const std::int64_t b = shape.batch;
  const std::int64_t t = shape.tokens;
  ag::Variable q = ag::reshape(q_.forward(x, context), {b, t, heads_, head_width_});
  ag::Variable k = ag::reshape(k_.forward(x, context), {b, t, kv_heads_, head_width_});
  ag::Variable v = ag::reshape(v_.forward(x, context), {b, t, kv_heads_, head_width_});
  if (rotary_) {
    q = ag::rotary(q, rope_theta_, shape.position);
    k = ag::rotary(k, rope_theta_, shape.position);
  }
  if (cache != nullptr) {
    require<ShapeError>(b == 1, "[attention] a cache holds one sequence, got a batch of {}", b);
    k = append(cache->keys, k, shape.position, cache_capacity);
    v = append(cache->values, v, shape.position, cache_capacity);
  }
  const ag::Variable y = ag::attention(q, k, v, {.causal = causal_});
  return out_.forward(ag::reshape(y, {b * t, heads_ * head_width_}), context);
}

void SelfAttention::collect_parameters(std::vector<ag::Parameter*>& out) {
  for (Linear* linear : {&q_, &k_, &v_, &out_}) linear->collect_parameters(out);
}

void SelfAttention::collect_weights(std::vector<sparsity::LinearWeight*>& out) {
  for (Linear* linear : {&q_, &k_, &v_, &out_}) out.push_back(&linear->weight());
}

}  // namespace hew::layers
