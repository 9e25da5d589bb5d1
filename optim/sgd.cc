#include "optim/sgd.h"

#include "kernels/sgd.h"

namespace hew::optim {
namespace {

std::vector<std::string> slots_for(double momentum) {
  if (momentum == 0)
    return {};
  return {"momentum"};
}

}  // namespace

Sgd::Sgd(std::vector<ag::Parameter*> parameters, const SgdOptions& options)
    : Optimizer(std::move(parameters), slots_for(options.momentum)), options_(options) {}

void Sgd::update(ag::Parameter& parameter, State& state, double lr, double grad_scale) {
  Tensor& value = parameter.var.mutable_value();
  const kernels::SgdStep settings{
      .lr = lr,
      .momentum = options_.momentum,
      .nesterov = options_.nesterov,
      .weight_decay = parameter.weight_decay ? options_.weight_decay : 0,
      .grad_scale = grad_scale};
  const View buffer = state.moments.empty() ? View{} : state.moments[0].view();
  kernels::sgd(settings, parameter.var.grad(), value, buffer, value.stream());
}

}  // namespace hew::optim
