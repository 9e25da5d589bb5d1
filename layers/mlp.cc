#include "layers/mlp.h"

#include "autograd/feed_forward.h"
#include "autograd/swiglu.h"
#include "sparsity/sparse_gated_feed_forward.h"

namespace hew::layers {
namespace {

bool gated(const ModelConfig& config) {
  return config.family == ModelFamily::kLlama;
}

Linear::Options up_options(const ModelConfig& config) {
  return {.in_features = config.width,
          .out_features = config.mlp_width,
          .bias = config.bias,
          .activation = gated(config) ? kernels::Activation::kNone : config.activation,
          .init_std = config.init_std};
}

Linear::Options down_options(const ModelConfig& config) {
  return {.in_features = config.mlp_width,
          .out_features = config.width,
          .bias = config.bias,
          .activation = kernels::Activation::kNone,
          .init_std = config.residual_init_std()};
}

}  // namespace

Mlp::Mlp(const std::string& name, const ModelConfig& config, const Initializer& init)
    : up_(name + ".up", up_options(config), init),
      down_(name + ".down", down_options(config), init) {
  if (gated(config))
    gate_.emplace(name + ".gate", up_options(config), init);
}

ag::Variable Mlp::forward(const ag::Variable& x, const ag::ForwardContext& context) const {
  const bool activated = up_.activation() != kernels::Activation::kNone;
  const auto both = [this](sparsity::Storage storage) {
    return up_.storage() == storage && down_.storage() == storage;
  };
  if (!gate_ && activated && both(sparsity::Storage::kDense))
    return ag::feed_forward({.x = x,
                             .up = up_.use_weight(context),
                             .up_bias = up_.use_bias(context),
                             .down = down_.use_weight(context),
                             .down_bias = down_.use_bias(context),
                             .activation = up_.activation(),
                             .remake = context.remake_activations});
  if (!gate_ && activated && both(sparsity::Storage::kLiveBlocks))
    return sparsity::sparse_feed_forward({.x = x,
                                          .up = up_.use_live_blocks(context),
                                          .down = down_.use_live_blocks(context),
                                          .activation = up_.activation(),
                                          .training = context.training});
  if (gate_ && gate_->storage() == sparsity::Storage::kLiveBlocks &&
      both(sparsity::Storage::kLiveBlocks))
    return sparsity::sparse_gated_feed_forward({.x = x,
                                                .gate = gate_->use_live_blocks(context),
                                                .up = up_.use_live_blocks(context),
                                                .down = down_.use_live_blocks(context)});
  const ag::Variable up = up_.forward(x, context);
  return down_.forward(gate_ ? ag::swiglu(gate_->forward(x, context), up) : up, context);
}

void Mlp::collect_parameters(std::vector<ag::Parameter*>& out) {
  if (gate_)
    gate_->collect_parameters(out);
  up_.collect_parameters(out);
  down_.collect_parameters(out);
}

void Mlp::collect_weights(std::vector<sparsity::LinearWeight*>& out) {
  if (gate_)
    out.push_back(&gate_->weight());
  out.push_back(&up_.weight());
  out.push_back(&down_.weight());
}

}  // namespace hew::layers
