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

void Sgd::update(std::span<const Item> items, double lr, const ConstView& grad_scale) {
  const kernels::SgdStep settings{.lr = lr,
                                  .momentum = options_.momentum,
                                  .nesterov = options_.nesterov,
                                  .grad_scale = grad_scale};
  std::vector<kernels::SgdTensors> tensors;
  tensors.reserve(items.size());
  for (const auto& [parameter, state] : items) {
    ag::Variable::Update target = parameter->var.update();
    tensors.push_back({.g = std::as_const(parameter->var).grad(),
                       .w = target.value,
                       .buffer = state->moments.empty() ? View{} : state->moments[0].view(),
                       .working = target.working,
                       .weight_decay = parameter->weight_decay ? options_.weight_decay : 0,
                       .lr_factor = parameter->lr_factor});
  }
  kernels::sgd(settings, tensors, items.front().parameter->value().stream());
}

}  // namespace hew::optim
