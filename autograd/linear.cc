#include "autograd/linear.h"

#include "core/error.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew::ag {

using kernels::Activation;

Variable linear(const Variable& x, const Variable& w, const Variable& bias, Activation activation) {
  require<ShapeError>(x.shape().rank() == 2 && w.shape().rank() == 2 && x.size(1) == w.size(1),
                      "[linear] x {} and w {} are not [M, K] and [N, K]", to_string(x.shape()),
                      to_string(w.shape()));
  const Stream& stream = x.stream();
  const Shape out{x.size(0), w.size(0)};
  Tensor y = Tensor::empty(out, x.dtype(), stream);
  const bool taped = x.requires_grad() || w.requires_grad() || bias.requires_grad();
  Tensor pre;
  if (taped && activation != Activation::kNone)
    pre = Tensor::empty(out, x.dtype(), stream);
  kernels::linear_forward({.x = x.value(),
                           .w = w.value(),
                           .bias = bias ? bias.value().view() : ConstView(),
                           .activation = activation,
                           .y = y,
                           .pre = pre},
                          stream);
  std::vector<Variable> inputs{x, w};
  if (bias)
    inputs.push_back(bias);
  auto rule = [x = x.value(), w = w.value(), pre, activation](const Tensor& grad_output,
                                                              Needs& needs) {
    const Stream& on = grad_output.stream();
    Tensor dy = grad_output;
    if (pre.defined()) {
      dy = Tensor::empty(pre.shape(), pre.dtype(), on);
      kernels::activation_backward(activation, pre, grad_output, dy, on);
    }
    std::vector<Tensor> grads(needs.size());
    if (needs[0]) {
      grads[0] = Tensor::empty(x.shape(), x.dtype(), on);
      kernels::linear_input_gradient({.dy = dy, .w = w, .dx = grads[0]}, on);
    }
    const bool needs_bias = needs.size() > 2 && needs[2];
    if (needs_bias)
      grads[2] = Tensor::empty({w.size(0)}, accumulator_of(w.dtype()), on);
    if (needs[1]) {
      grads[1] = Tensor::empty(w.shape(), accumulator_of(w.dtype()), on);
      kernels::linear_weight_gradient(
          {.dy = dy, .x = x, .dw = grads[1], .dbias = needs_bias ? grads[2].view() : View()}, on);
    } else if (needs_bias) {
      kernels::sum_leading(dy, grads[2], on);
    }
    return grads;
  };
  return record("linear", std::move(y), std::move(inputs), std::move(rule));
}

}  // namespace hew::ag
