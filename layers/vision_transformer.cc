#include "layers/vision_transformer.h"

#include <cmath>
#include <utility>

#include "autograd/rearrange.h"
#include "autograd/soft_cross_entropy.h"
#include "autograd/tokens.h"
#include "core/error.h"
#include "kernels/patches.h"

namespace hew::layers {
namespace {

Linear::Options patch_options(const ModelConfig& config) {
  const std::int64_t pixels = config.channels * config.patch_size * config.patch_size;
  require<ConfigError>(
      config.patch_size > 0 && config.image_size > 0 && config.image_size % config.patch_size == 0,
      "[model] images of {} pixels do not fall into patches of {}", config.image_size,
      config.patch_size);
  require<ConfigError>(
      config.heads > 0 && config.width % config.heads == 0 && config.kv_heads == config.heads,
      "[model] width {} does not divide into {} heads", config.width, config.heads);
  require<ConfigError>(config.classes > 0, "[model] there are no classes");
  require<ConfigError>(config.context == config.image_tokens(),
                       "[model] a context of {} for {} tokens of an image", config.context,
                       config.image_tokens());
  // As of a convolution that reads so many pixels, whatever their number.
  return {.in_features = pixels,
          .out_features = config.width,
          .init_std = 1 / std::sqrt(static_cast<double>(pixels))};
}

ag::Parameter without_decay(const std::string& name, const Tensor& value) {
  return {.name = name, .var = ag::Variable(value, /*requires_grad=*/true)};
}

}  // namespace

VisionTransformer::VisionTransformer(const ModelConfig& config, const Initializer& init)
    : config_(config),
      patch_embedding_("patch_embedding", patch_options(config), init),
      blocks_(config, init),
      final_norm_("final_norm", norm_options(config), init),
      head_("head",
            {.in_features = config.width,
             .out_features = config.classes,
             .init_std = config.init_std},
            init) {
  if (config.pooling == Pooling::kClassToken)
    class_token_ = without_decay("class_token", init.constant({config.width}, 0.0));
  const std::string positions = "position_embedding.weight";
  position_embedding_ = without_decay(
      positions, init.normal(positions, {config.context, config.width}, config.init_std));
}

ag::Variable VisionTransformer::embed(const Tensor& images, ag::ForwardContext& context) const {
  const std::int64_t batch = images.size(0);
  const ag::Variable positions = context.use(position_embedding_);
  Tensor pixels = Tensor::empty(
      {batch * config_.patches(), config_.channels * config_.patch_size * config_.patch_size},
      positions.dtype(), images.stream());
  kernels::patches({.images = images, .size = config_.patch_size, .y = pixels}, images.stream());
  const ag::Variable patches = patch_embedding_.forward(ag::Variable(pixels), context);
  const ag::Variable tokens =
      ag::join_tokens(ag::reshape(patches, {batch, config_.patches(), config_.width}),
                      context.use(class_token_), positions);
  const ag::Variable x = ag::reshape(tokens, {batch * config_.context, config_.width});
  return drop(x, {.element = config_.dropout}, config_.context, context);
}

ag::Variable VisionTransformer::forward(const Tensor& images, ag::ForwardContext& context) const {
  const std::int64_t size = config_.image_size;
  const std::int64_t batch = images.shape().rank() == 4 ? images.size(0) : 0;
  require<ShapeError>(images.shape() == Shape({batch, config_.channels, size, size}),
                      "[vision_transformer] images have shape {}, expected [B, {}, {}, {}]",
                      to_string(images.shape()), config_.channels, size, size);
  context.dropout_calls = 0;
  const SequenceShape shape{.batch = batch, .tokens = config_.context};
  const Residual stream = blocks_.forward(embed(images, context), shape, nullptr, context);
  if (config_.pooling == Pooling::kMean) {
    const ag::Variable x = final_norm_.forward(stream.x, stream.branch, context).normed;
    return head_.forward(ag::mean_tokens(ag::reshape(x, {batch, config_.context, config_.width})),
                         context);
  }
  // A norm is by token: only the class tokens need one.
  const ag::Variable x = ag::first_tokens(stream.x, stream.branch, config_.context);
  return head_.forward(final_norm_.forward(x, context), context);
}

ag::Variable VisionTransformer::loss(const Tensor& images, const Tensor& targets,
                                     const LossOptions& options,
                                     ag::ForwardContext& context) const {
  return ag::soft_cross_entropy(forward(images, context), targets,
                                {.smoothing = options.smoothing, .scale = options.scale});
}

std::vector<ag::Parameter*> VisionTransformer::parameters() {
  std::vector<ag::Parameter*> out;
  patch_embedding_.collect_parameters(out);
  if (class_token_.var)
    out.push_back(&class_token_);
  out.push_back(&position_embedding_);
  blocks_.collect_parameters(out);
  final_norm_.collect_parameters(out);
  head_.collect_parameters(out);
  return out;
}

std::vector<sparsity::LinearWeight*> VisionTransformer::linear_weights() {
  std::vector<sparsity::LinearWeight*> out{&patch_embedding_.weight()};
  blocks_.collect_weights(out);
  out.push_back(&head_.weight());
  return out;
}

const VisionTransformer& as_vision_transformer(const Model& model) {
  const auto* vision = dynamic_cast<const VisionTransformer*>(&model);
  require<ConfigError>(vision != nullptr, "[model] a {} is no vision transformer",
                       name_of(model.config().family));
  return *vision;
}

VisionTransformer& as_vision_transformer(Model& model) {
  as_vision_transformer(std::as_const(model));  // throws
  return static_cast<VisionTransformer&>(model);
}

}  // namespace hew::layers
