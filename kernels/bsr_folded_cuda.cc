#include "kernels/bsr_folded_cuda.h"

#include "core/beside.h"
#include "kernels/blocks.h"
#include "kernels/bsr_routes.h"
#include "kernels/elementwise.h"
#include "kernels/folded_weight.h"
#include "kernels/linear.h"
#include "kernels/product_settings.h"
#include "kernels/swiglu.h"

namespace hew::kernels {
namespace {

// W [N, K] of a product's values.
template <class Args>
Tensor folded(const Args& args, const Stream& stream) {
  FoldedWeight alone;
  const bool keep = stream.state->get<BsrSettings>(stream).keep_folded;
  FoldedWeight& weight = keep && args.folded != nullptr ? *args.folded : alone;
  return weight.of(args.values, args.index, stream);
}

}  // namespace

bool folding_is_cheaper(Cuda backend, BsrProblem problem) {
  problem.tf32 = backend.stream.state->get<ProductSettings>(backend.stream).tf32;
  return backend.stream.state->get<BsrSettings>(backend.stream).folds(problem);
}

void bsr_forward_folded(Cuda backend, const BsrForwardArgs& args) {
  const Stream& stream = backend.stream;
  const bool activated = args.activation != Activation::kNone;
  const View product = args.gate && args.pre ? args.pre : args.y;
  linear_forward({.x = args.x,
                  .w = folded(args, stream),
                  .bias = args.bias,
                  .activation = args.activation,
                  .y = product,
                  .pre = activated ? args.pre : View{}},
                 stream);
  if (args.gate)
    swiglu_forward(args.gate, product, args.y, stream);
  if (args.residual)
    add(product, args.residual, args.y, stream);
}

void bsr_input_gradient_folded(Cuda backend, const BsrInputGradientArgs& args) {
  const Stream& stream = backend.stream;
  linear_input_gradient({.dy = args.dy,
                         .w = folded(args, stream),
                         .dx = args.dx,
                         .activation = args.activation,
                         .pre = args.pre,
                         .dbias = args.dbias},
                        stream);
  if (args.gate) {
    swiglu_backward(
        {.gate = args.gate, .up = args.up, .dy = args.dx, .dgate = args.dgate, .dup = args.dx},
        stream);
  }
}

void bsr_weight_gradient_folded(Cuda backend, const BsrWeightGradientArgs& args) {
  const Stream& stream = backend.stream;
  const BsrIndex& index = args.index;
  Tensor dw = Tensor::empty({index.rows, index.cols}, args.dvalues.dtype, stream);
  linear_weight_gradient({.dy = args.dy, .x = args.x, .dw = dw}, stream);
  const Stream copies = args.beside == nullptr ? stream : args.beside->begin();
  if (args.accumulate)
    accumulate_blocks(dw, index, args.dvalues, copies);
  else
    gather_blocks(dw, index, args.dvalues, copies);
  if (args.beside != nullptr)
    args.beside->keep(dw);
}

}  // namespace hew::kernels
