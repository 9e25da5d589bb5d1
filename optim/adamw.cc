#include "optim/adamw.h"

#include "kernels/adamw.h"

namespace hew::optim {

AdamW::AdamW(std::vector<ag::Parameter*> parameters, const AdamWOptions& options)
    : Optimizer(std::move(parameters), {"m", "v"}), options_(options) {}

void AdamW::update(ag::Parameter& parameter, State& state, double lr, double grad_scale) {
  Tensor& value = parameter.var.mutable_value();
  const kernels::AdamWStep settings{
      .lr = lr,
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .eps = options_.eps,
      .weight_decay = parameter.weight_decay ? options_.weight_decay : 0,
      .grad_scale = grad_scale,
      .step = steps()};
  kernels::adamw(settings,
                 {.g = parameter.var.grad(),
                  .birth = state.birth,
                  .w = value,
                  .m = state.moments[0],
                  .v = state.moments[1]},
                 value.stream());
}

}  // namespace hew::optim
