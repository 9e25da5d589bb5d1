#include "kernels/bsr_folded_cuda.h"

#include "kernels/blocks.h"
#include "kernels/bsr_routes.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"
#include "kernels/product_settings.h"

namespace hew::kernels {

bool folding_is_cheaper(Cuda backend, BsrProblem problem) {
  problem.tf32 = backend.stream.state->get<ProductSettings>(backend.stream).tf32;
  return backend.stream.state->get<BsrSettings>(backend.stream).folds(problem);
}

void bsr_forward_folded(Cuda backend, const BsrForwardArgs& args) {
  const Stream& stream = backend.stream;
  const BsrIndex& index = args.index;
  Tensor w = Tensor::empty({index.rows, index.cols}, args.values.dtype, stream);
  scatter_blocks(args.values, index, w, stream);
  linear_forward({.x = args.x,
                  .w = w,
                  .bias = args.bias,
                  .activation = args.activation,
                  .y = args.y,
                  .pre = args.pre},
                 stream);
}

void bsr_input_gradient_folded(Cuda backend, const BsrInputGradientArgs& args) {
  const Stream& stream = backend.stream;
  Tensor w = Tensor::empty({args.index.rows, args.index.cols}, args.values.dtype, stream);
  scatter_blocks(args.values, args.index, w, stream);
  linear_input_gradient({.dy = args.dy,
                         .w = w,
                         .dx = args.dx,
                         .activation = args.activation,
                         .pre = args.pre,
                         .dbias = args.dbias},
                        stream);
}

void bsr_weight_gradient_folded(Cuda backend, const BsrWeightGradientArgs& args) {
  const Stream& stream = backend.stream;
  const BsrIndex& index = args.index;
  Tensor dw = Tensor::empty({index.rows, index.cols}, args.dvalues.dtype, stream);
  linear_weight_gradient({.dy = args.dy, .x = args.x, .dw = dw}, stream);
  if (!args.accumulate)
    return gather_blocks(dw, index, args.dvalues, stream);
  Tensor live = Tensor::empty(args.dvalues.shape, args.dvalues.dtype, stream);
  gather_blocks(dw, index, live, stream);
  add(args.dvalues, live, args.dvalues, stream);
}

}  // namespace hew::kernels
