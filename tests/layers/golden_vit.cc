#include "tests/layers/golden_vit.h"

namespace hew::test {

using layers::ModelConfig;
using layers::VisionTransformer;

ModelPass training_pass(VisionTransformer& model, const Tensor& images, const Tensor& targets,
                        const VisionTransformer::LossOptions& options, ag::ForwardContext context) {
  context.training = true;
  for (ag::Parameter* p : model.parameters()) p->var.zero_grad();
  const ag::Variable loss = model.loss(images, targets, options, context);
  ag::backward(loss);
  return {.logits = {}, .loss = loss.value(), .gradients = gradients_of(model)};
}

ModelConfig GoldenVit::config() const {
  const nlohmann::json model = shape();
  ModelConfig out{.family = layers::ModelFamily::kVit,
                  .layers = model.at("layers"),
                  .heads = model.at("heads"),
                  .kv_heads = model.at("heads"),
                  .width = model.at("width"),
                  .mlp_width = model.at("mlp_width"),
                  .activation = kernels::Activation::kGelu,
                  .norm_eps = model.at("norm_eps"),
                  .image_size = model.at("image_size"),
                  .channels = model.at("channels"),
                  .patch_size = model.at("patch_size"),
                  .classes = model.at("classes"),
                  .pooling = *parse_named<layers::Pooling>(model.at("pooling").get<std::string>())};
  out.context = out.image_tokens();
  return out;
}

std::unique_ptr<VisionTransformer> GoldenVit::model(DType dtype, const ModelConfig& config) const {
  auto out = std::make_unique<VisionTransformer>(
      config, layers::Initializer{.seed = 1, .dtype = dtype, .stream = stream()});
  fill(*out, dtype);
  return out;
}

Tensor GoldenVit::logits(const VisionTransformer& model) const {
  ag::ForwardContext context;
  return model.forward(read("images"), context).value();
}

ModelPass GoldenVit::pass(VisionTransformer& model, const ag::ForwardContext& context) const {
  return training_pass(model, read("images"), read("targets"), {.smoothing = smoothing()}, context);
}

}  // namespace hew::test
