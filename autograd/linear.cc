#include "autograd/linear.h"

#include "autograd/linear_gradients.h"
#include "core/error.h"
#include "kernels/linear.h"

namespace hew::ag {

using kernels::Activation;

Variable linear(const Variable& x, const Variable& w, const Variable& bias, Activation activation) {
  require<ShapeError>(x.shape().rank() == 2 && w.shape().rank() == 2 && x.size(1) == w.size(1),
                      "[linear] x {} and w {} are not [M, K] and [N, K]", to_string(x.shape()),
                      to_string(w.shape()));
  const Shape out{x.size(0), w.size(0)};
  Tensor y = Tensor::empty(out, x.dtype(), x.stream());
  const bool taped = x.requires_grad() || w.requires_grad() || bias.requires_grad();
  Tensor pre;
  if (taped && activation != Activation::kNone)
    pre = Tensor::empty(out, x.dtype(), x.stream());
  kernels::linear_forward({.x = x.value(),
                           .w = w.value(),
                           .bias = bias ? bias.value().view() : ConstView(),
                           .activation = activation,
                           .y = y,
                           .pre = pre},
                          x.stream());
  auto rule = [x = Saved(x), w = w.value(), pre, activation](const Tensor& grad_output,
                                                             Needs& needs) {
    Tensor dy = grad_output;
    if (pre.defined()) {
      dy = Tensor::empty(pre.shape(), pre.dtype(), pre.stream());
      kernels::activation_backward(activation, pre, grad_output, dy, pre.stream());
    }
    Tensor dx = linear_input_gradient(dy, w, needs, 0);
    auto [dw, dbias] = linear_weight_gradients(dy, x, needs, {.weight = 1, .bias = 2});
    return std::vector<Tensor>{dx, dw, dbias};
  };
  return record("linear", std::move(y), {x, w, bias}, std::move(rule));
}

}  // namespace hew::ag
