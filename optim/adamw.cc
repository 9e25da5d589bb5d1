#include "optim/adamw.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/adamw.h"

namespace hew::optim {

AdamW::AdamW(std::vector<ag::Parameter*> parameters, const AdamWOptions& options)
    : Optimizer(std::move(parameters), {"m", "v"}, options.moments), options_(options) {
  const double beta = std::max(options.beta1, options.beta2);
  require<ConfigError>(options.moments != DType::kBFloat16 || beta <= kMaxBFloat16Beta,
                       "[adamw] moments in bfloat16 cannot decay by {}, expected at most {}", beta,
                       kMaxBFloat16Beta);
}

void AdamW::update(std::span<const Item> items, double lr, const ConstView& grad_scale) {
  const kernels::AdamWStep settings{.lr = lr,
                                    .beta1 = options_.beta1,
                                    .beta2 = options_.beta2,
                                    .eps = options_.eps,
                                    .step = steps(),
                                    .grad_scale = grad_scale};
  std::vector<kernels::AdamWTensors> tensors;
  tensors.reserve(items.size());
  for (const auto& [parameter, state] : items) {
    ag::Variable::Update target = parameter->var.update();
    tensors.push_back({.g = std::as_const(parameter->var).grad(),
                       .birth = std::as_const(state->birth),
                       .w = target.value,
                       .m = state->moments[0],
                       .v = state->moments[1],
                       .working = target.working,
                       .weight_decay = parameter->weight_decay ? options_.weight_decay : 0,
                       .lr_factor = parameter->lr_factor});
  }
  kernels::adamw(settings, tensors, items.front().parameter->value().stream());
}

}  // namespace hew::optim
