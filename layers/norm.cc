#include "layers/norm.h"

namespace hew::layers {

Norm::Norm(const std::string& name, const Options& options, const Initializer& init)
    : kind_(options.kind), eps_(options.eps) {
  weight_ = {.name = name + ".weight",
             .var = ag::Variable(init.constant({options.width}, 1.0), /*requires_grad=*/true)};
  if (kind_ == NormKind::kLayerNorm && options.bias) {
    bias_ = {.name = name + ".bias",
             .var = ag::Variable(init.constant({options.width}, 0.0), /*requires_grad=*/true)};
  }
}

ag::Variable Norm::forward(const ag::Variable& x, const ag::ForwardContext& context) const {
  return forward(x, ag::Variable(), context).normed;
}

ag::AddedNorm Norm::forward(const ag::Variable& x, const ag::Variable& branch,
                            const ag::ForwardContext& context) const {
  const ag::NormOptions options{.eps = eps_, .remake = context.remake_norms};
  if (kind_ == NormKind::kRmsNorm)
    return ag::add_rms_norm(x, branch, context.use(weight_), options);
  return ag::add_layer_norm(x, branch, context.use(weight_), context.use(bias_), options);
}

void Norm::collect_parameters(std::vector<ag::Parameter*>& out) {
  out.push_back(&weight_);
  if (bias_.var)
    out.push_back(&bias_);
}

}  // namespace hew::layers
