#include "sparsity/sparse_products.h"

#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew::sparsity {
namespace {

Shape values_shape(const BsrPattern& pattern) {
  return {pattern.nnzb(), pattern.grid().block, pattern.grid().block};
}

}  // namespace

SparseForward sparse_forward(const SparseForwardArgs& args) {
  const auto& [x, values, bias, pattern, activation, gate, keep_pre, folded] = args;
  const Shape shape{x.size(0), pattern.grid().rows};
  SparseForward out{.y = Tensor::empty(shape, x.dtype(), x.stream())};
  if (keep_pre && (activation != kernels::Activation::kNone || gate.defined()))
    out.pre = Tensor::empty(shape, x.dtype(), x.stream());
  kernels::bsr_forward({.x = x,
                        .values = values,
                        .index = pattern.index(),
                        .bias = bias ? bias.value().view() : ConstView{},
                        .activation = activation,
                        .gate = gate.defined() ? gate.view() : ConstView{},
                        .y = out.y,
                        .pre = out.pre.defined() ? View(out.pre) : View{},
                        .folded = folded.get()},
                       x.stream());
  return out;
}

SparseForwardArgs product_of(const Tensor& x, const SparseLayer& layer) {
  return {.x = x,
          .values = layer.values.value(),
          .bias = layer.bias,
          .pattern = *layer.pattern,
          .folded = layer.folded};
}

Tensor sparse_input_gradient(const Tensor& d, const Tensor& values, const BsrPattern& pattern,
                             const FoldedPtr& folded) {
  Tensor dx = Tensor::empty({d.size(0), pattern.grid().cols}, d.dtype(), d.stream());
  kernels::bsr_input_gradient(
      {.dy = d, .values = values, .index = pattern.index(), .dx = dx, .folded = folded.get()},
      d.stream());
  return dx;
}

Tensor sum_of_tokens(const Tensor& d) {
  Tensor sums = Tensor::empty({d.size(1)}, accumulator_of(d.dtype()), d.stream());
  kernels::sum_leading(d, sums, d.stream());
  return sums;
}

Tensor live_gradient(const Tensor& d, const Tensor& x, const BsrPattern& pattern, ag::SumTarget to,
                     Beside* beside) {
  kernels::bsr_weight_gradient({.dy = d,
                                .x = x,
                                .index = pattern.index(),
                                .dvalues = to.sum,
                                .accumulate = to.accumulate,
                                .beside = beside},
                               d.stream());
  return to.sum;
}

Tensor dense_gradient(const Tensor& d, const Tensor& x) {
  Tensor g = Tensor::empty({d.size(1), x.size(1)}, accumulator_of(d.dtype()), d.stream());
  kernels::linear_weight_gradient({.dy = d, .x = x, .dw = g}, d.stream());
  return g;
}

SparseWeightGradients sparse_weight_gradients(const Tensor& d, const ag::Saved& x,
                                              const BsrPattern& pattern, ag::Needs& needs,
                                              const SparseWeightInputs& inputs, Beside& beside) {
  SparseWeightGradients out;
  if (needs[inputs.probe])
    out.probe = dense_gradient(d, x.get());
  if (!needs[inputs.values])
    return out;
  out.values = out.probe.defined()
                   ? gather(out.probe, pattern)
                   : live_gradient(d, x.get(), pattern,
                                   ag::sum_target(needs, inputs.values, values_shape(pattern),
                                                  accumulator_of(d.dtype()), d.stream()),
                                   &beside);
  return out;
}

}  // namespace hew::sparsity
