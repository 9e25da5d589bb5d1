#include "autograd/linear_gradients.h"

#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew::ag {

SumTarget sum_target(Needs& needs, std::size_t i, const Shape& shape, DType dtype,
                     const Stream& stream) {
  const Needs::Gathered before = needs.take(i);
  if (!before.grad.defined())
    return {.sum = Tensor::empty(shape, dtype, stream)};
  return {.sum = before.writable ? before.grad : before.grad.clone(), .accumulate = true};
}

Tensor linear_input_gradient(const Tensor& dy, const Tensor& w, Needs& needs, std::size_t i) {
  if (!needs[i])
    return {};
  SumTarget dx = sum_target(needs, i, {dy.size(0), w.size(1)}, dy.dtype(), dy.stream());
  kernels::linear_input_gradient({.dy = dy, .w = w, .dx = dx.sum, .accumulate = dx.accumulate},
                                 dy.stream());
  return dx.sum;
}

LinearWeightGradients linear_weight_gradients(const Tensor& dy, const Saved& x, Needs& needs,
                                              const LinearWeightInputs& inputs) {
  const Stream& stream = dy.stream();
  const DType dtype = accumulator_of(dy.dtype());
  const Shape bias_shape{dy.size(1)};
  const bool needs_bias = inputs.bias < needs.size() && needs[inputs.bias];
  LinearWeightGradients out;
  if (!needs[inputs.weight]) {
    if (needs_bias) {
      out.dbias = Tensor::empty(bias_shape, dtype, stream);
      kernels::sum_leading(dy, out.dbias, stream);
    }
    return out;
  }
  SumTarget dw = sum_target(needs, inputs.weight, {dy.size(1), x.shape()[1]}, dtype, stream);
  out.dw = dw.sum;
  if (needs_bias) {
    // One pass makes both, so both are added to something or neither is.
    SumTarget dbias = sum_target(needs, inputs.bias, bias_shape, dtype, stream);
    out.dbias = dbias.sum;
    if (dbias.accumulate && !dw.accumulate) {
      out.dw.fill_zero();
    } else if (dw.accumulate && !dbias.accumulate) {
      out.dbias.fill_zero();
    }
    kernels::linear_weight_gradient({.dy = dy,
                                     .x = x.get(),
                                     .dw = out.dw,
                                     .accumulate = dw.accumulate || dbias.accumulate,
                                     .dbias = out.dbias},
                                    stream);
    return out;
  }
  kernels::linear_weight_gradient(
      {.dy = dy, .x = x.get(), .dw = out.dw, .accumulate = dw.accumulate}, stream);
  return out;
}

}  // namespace hew::ag
