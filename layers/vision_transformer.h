#pragma once

#include <optional>
#include <vector>

#include "layers/model.h"
#include "layers/transformer_block.h"

namespace hew::layers {

/// ViT (Dosovitskiy et al. 2021): patches through a linear layer, a class token in front of them or
/// none, learned positions, transformer blocks whose attention sees all tokens, a norm, and a head
/// on the class token or on the mean of all tokens.
/// Parameters: patch_embedding.{weight [C, c·p·p], bias}, class_token [C] (absent with pooling by
/// mean), position_embedding.weight [T, C], blocks.N.…, final_norm.…, head.{weight [classes, C],
/// bias}.
class VisionTransformer final : public Model {
 public:
  /// Starting values depend on init.seed and parameter names alone. Throws ConfigError where the
  /// sizes do not fit one another.
  VisionTransformer(const ModelConfig& config, const Initializer& init);

  const ModelConfig& config() const override { return config_; }

  /// images float32 [B, c, image_size, image_size] → logits [B, classes]. Throws ShapeError.
  ag::Variable forward(const Tensor& images, ag::ForwardContext& context) const;

  struct LossOptions {
    double smoothing = 0;  // of labels
    double scale = 1;
  };
  /// scale · mean cross entropy of the logits of images against targets float32 [B, classes], whose
  /// rows add up to 1; a scalar. Formula: kernels::SoftCrossEntropy.
  ag::Variable loss(const Tensor& images, const Tensor& targets, const LossOptions& options,
                    ag::ForwardContext& context) const;

  std::vector<ag::Parameter*> parameters() override;
  std::vector<sparsity::LinearWeight*> linear_weights() override;

 private:
  // All tokens [B·T, C].
  ag::Variable embed(const Tensor& images, ag::ForwardContext& context) const;

  ModelConfig config_;
  Linear patch_embedding_;
  ag::Parameter class_token_;  // undefined with pooling by mean
  ag::Parameter position_embedding_;
  TransformerBlocks blocks_;
  Norm final_norm_;
  Linear head_;
};

/// The model as a vision transformer. Throws ConfigError where it is of another family.
VisionTransformer& as_vision_transformer(Model& model);
const VisionTransformer& as_vision_transformer(const Model& model);

}  // namespace hew::layers
