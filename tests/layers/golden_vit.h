#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers/vision_transformer.h"
#include "tests/support/device.h"
#include "tests/support/golden_model.h"

namespace hew::test {

/// Forward and backward from gradients of zero; the pass has no logits.
ModelPass training_pass(layers::VisionTransformer& model, const Tensor& images,
                        const Tensor& targets,
                        const layers::VisionTransformer::LossOptions& options,
                        ag::ForwardContext context);

/// The recorded vision transformer with that pooling.
class GoldenVit : public GoldenModel {
 public:
  explicit GoldenVit(const std::string& pooling, const Stream& stream = test_stream())
      : GoldenModel("vit_" + pooling, stream) {}

  layers::ModelConfig config() const;
  std::unique_ptr<layers::VisionTransformer> model(DType dtype) const {
    return model(dtype, config());
  }
  std::unique_ptr<layers::VisionTransformer> model(DType dtype,
                                                   const layers::ModelConfig& config) const;
  double smoothing() const { return std::stod(metadata("smoothing")); }

  Tensor logits(const layers::VisionTransformer& model) const;
  ModelPass pass(layers::VisionTransformer& model, const ag::ForwardContext& context = {}) const;
};

inline const std::vector<std::string> kPoolings{"cls", "mean"};

}  // namespace hew::test
