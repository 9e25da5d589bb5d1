#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers/attention.h"
#include "layers/config.h"
#include "layers/mlp.h"
#include "layers/model.h"
#include "layers/norm.h"

namespace hew::layers {

/// The residual stream x + branch, not yet added: the next norm does that in passing. The branch
/// may be undefined.
struct Residual {
  ag::Variable x;
  ag::Variable branch;
};

/// One pre-norm transformer block: x += attn(norm1(x)); x += mlp(norm2(x)), dropout on both
/// branches.
class TransformerBlock {
 public:
  TransformerBlock(const std::string& name, const ModelConfig& config, const Initializer& init);

  Residual forward(const Residual& in, const SequenceShape& shape, KvCache::Layer* cache,
                   std::int64_t cache_capacity, ag::ForwardContext& context) const;
  void collect_parameters(std::vector<ag::Parameter*>& out);
  void collect_weights(std::vector<sparsity::LinearWeight*>& out);
  const std::string& name() const { return name_; }

  static constexpr std::uint64_t kDropoutCalls = 2;

 private:
  std::string name_;
  double dropout_;
  Norm norm1_;
  SelfAttention attention_;
  Norm norm2_;
  Mlp mlp_;
};

/// GPT-2 (learned positions, LayerNorm, GELU) or Llama (rotary positions, RMSNorm, SwiGLU).
/// Parameters: token_embedding.weight [V, C], position_embedding.weight [context, C] (GPT-2),
/// blocks.N.…, final_norm.…, head.weight [V, C] (absent when tied to the token embedding).
class LanguageModel final : public Model {
 public:
  /// Starting values depend on init.seed and parameter names alone. Throws ConfigError where the
  /// sizes do not fit one another.
  LanguageModel(const ModelConfig& config, const Initializer& init);

  const ModelConfig& config() const override { return config_; }

  /// ids int32 [B, T], T ≤ context → logits [B·T, V]. With a cache B is 1 and ids continue what it
  /// holds; it grows by T. Throws ShapeError past the context.
  ag::Variable forward(const Tensor& ids, ag::ForwardContext& context,
                       KvCache* cache = nullptr) const;
  /// scale · mean cross entropy of the logits of ids against targets, both int32 [B, T]; a scalar.
  /// With a dense head the logits never exist all at once.
  ag::Variable loss(const Tensor& ids, const Tensor& targets, double scale,
                    ag::ForwardContext& context) const;

  std::vector<ag::Parameter*> parameters() override;
  std::vector<sparsity::LinearWeight*> linear_weights() override;

 private:
  ag::Variable embed(const Tensor& ids, const SequenceShape& shape,
                     ag::ForwardContext& context) const;
  // The last norm's output [B·T, C].
  ag::Variable hidden(const Tensor& ids, ag::ForwardContext& context, KvCache* cache) const;
  Residual recomputed_block(const TransformerBlock& block, const Residual& in,
                            const SequenceShape& shape, ag::ForwardContext& context) const;

  ModelConfig config_;
  ag::Parameter token_embedding_;
  ag::Parameter position_embedding_;  // undefined for Llama
  std::vector<std::unique_ptr<TransformerBlock>> blocks_;
  Norm final_norm_;
  std::unique_ptr<Linear> head_;  // null when tied
};

/// The model as a language model. Throws ConfigError where it is of another family.
LanguageModel& as_language_model(Model& model);
const LanguageModel& as_language_model(const Model& model);

}  // namespace hew::layers
