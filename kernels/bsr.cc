#include "kernels/bsr.h"

namespace hew::kernels {
namespace {

// The tokens M of a [M, width] argument.
std::int64_t require_tokens(std::string_view op, std::string_view what, const ConstView& view,
                            std::int64_t width) {
  require<ShapeError>(view.shape.rank() == 2 && view.shape[1] == width,
                      "[{}] {} has shape {}, expected [M, {}]", op, what, to_string(view.shape),
                      width);
  return view.shape[0];
}

}  // namespace

void require_bsr(std::string_view op, const BsrIndex& index, const ConstView& values) {
  require<ShapeError>(index.block >= 8 && index.block <= 128 && index.block % 8 == 0,
                      "[{}] block is {}, expected a multiple of 8 up to 128", op, index.block);
  require_shape(op, "values", values, {index.nnzb, index.block, index.block});
}

void bsr_forward(const BsrForwardArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "bsr_forward";
  require_bsr(kOp, args.index, args.values);
  const std::int64_t tokens = require_tokens(kOp, "x", args.x, args.index.cols);
  require_shape(kOp, "y", args.y, {tokens, args.index.rows});
  require_like(kOp, "values", args.values, args.x);
  require_like(kOp, "y", args.y, args.x);
  if (args.bias) {
    require_fits(kOp, "bias", args.bias, {args.index.rows}, args.x);
  }
  if (args.pre) {
    require_fits(kOp, "pre", args.pre, args.y.shape, args.x);
  }
  const int endings = (args.activation != Activation::kNone ? 1 : 0) + (args.gate ? 1 : 0) +
                      (args.residual ? 1 : 0);
  require<Error>(endings <= 1, "[{}] more than one of activation, gate and residual", kOp);
  if (args.gate)
    require_fits(kOp, "gate", args.gate, args.y.shape, args.x);
  if (args.residual)
    require_fits(kOp, "residual", args.residual, args.y.shape, args.x);
  dispatch(kOp, args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { bsr_forward<T>(backend, args); });
}

void bsr_input_gradient(const BsrInputGradientArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "bsr_input_gradient";
  require_bsr(kOp, args.index, args.values);
  const std::int64_t tokens = require_tokens(kOp, "dy", args.dy, args.index.rows);
  require_fits(kOp, "dx", args.dx, {tokens, args.index.cols}, args.dy);
  require_like(kOp, "values", args.values, args.dy);
  const bool activated = args.activation != Activation::kNone;
  require<Error>(activated || !args.dbias, "[{}] dbias without an activation", kOp);
  if (activated)
    require_fits(kOp, "pre", args.pre, args.dx.shape, args.dy);
  require<Error>(!(activated && args.gate), "[{}] both activation and gate", kOp);
  if (args.gate) {
    require_fits(kOp, "gate", args.gate, args.dx.shape, args.dy);
    require_fits(kOp, "up", args.up, args.dx.shape, args.dy);
    require_fits(kOp, "dgate", args.dgate, args.dx.shape, args.dy);
  }
  if (args.dbias)
    require_sums(kOp, "dbias", args.dbias, {args.index.cols}, args.dy);
  dispatch(kOp, args.dy.device, stream, args.dy.dtype,
           [&]<class T>(auto backend) { bsr_input_gradient<T>(backend, args); });
}

void bsr_weight_gradient(const BsrWeightGradientArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "bsr_weight_gradient";
  require_bsr(kOp, args.index, args.dvalues);
  const std::int64_t tokens = require_tokens(kOp, "dy", args.dy, args.index.rows);
  require_fits(kOp, "x", args.x, {tokens, args.index.cols}, args.dy);
  require_sums(kOp, "dvalues", args.dvalues, args.dvalues.shape, args.dy);
  dispatch(kOp, args.dy.device, stream, args.dy.dtype,
           [&]<class T>(auto backend) { bsr_weight_gradient<T>(backend, args); });
}

}  // namespace hew::kernels
