#include "layers/linear.h"

namespace hew::layers {

Linear::Linear(const std::string& name, const Options& options, const Initializer& init)
    : weight_(name + ".weight",
              init.normal(name + ".weight", {options.out_features, options.in_features},
                          options.init_std)),
      activation_(options.activation) {
  if (options.bias) {
    bias_ = {.name = name + ".bias",
             .var = ag::Variable(init.constant({options.out_features}, 0.0),
                                 /*requires_grad=*/true)};
  }
}

ag::Variable Linear::forward(const ag::Variable& x, const ag::ForwardContext& context) const {
  return weight_.product(x, context.use(bias_), activation_, context);
}

void Linear::collect_parameters(std::vector<ag::Parameter*>& out) {
  weight_.collect_parameters(out);
  if (bias_.var)
    out.push_back(&bias_);
}

}  // namespace hew::layers
