#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers/model.h"
#include "layers/transformer_block.h"

namespace hew::layers {

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

  ModelConfig config_;
  ag::Parameter token_embedding_;
  ag::Parameter position_embedding_;  // undefined for Llama
  TransformerBlocks blocks_;
  Norm final_norm_;
  std::unique_ptr<Linear> head_;  // null when tied
};

/// The model as a language model. Throws ConfigError where it is of another family.
LanguageModel& as_language_model(Model& model);
const LanguageModel& as_language_model(const Model& model);

}  // namespace hew::layers
