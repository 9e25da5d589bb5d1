#include "kernels/linear.h"

namespace hew::kernels {
namespace {

void require_matrix(std::string_view op, std::string_view what, const ConstView& view) {
  require<ShapeError>(view.shape.rank() == 2, "[{}] {} has shape {}, expected a matrix", op, what,
                      to_string(view.shape));
}

}  // namespace

void linear_forward(const LinearForwardArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "linear_forward";
  require_matrix(kOp, "x", args.x);
  require_matrix(kOp, "w", args.w);
  const std::int64_t n = args.w.shape[0];
  require_fits(kOp, "w", args.w, {n, args.x.shape[1]}, args.x);
  require_fits(kOp, "y", args.y, {args.x.shape[0], n}, args.x);
  if (args.bias) {
    require_fits(kOp, "bias", args.bias, {n}, args.x);
  }
  if (args.pre) {
    require_fits(kOp, "pre", args.pre, args.y.shape, args.x);
  }
  dispatch(kOp, args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { linear_forward<T>(backend, args); });
}

void linear_input_gradient(const LinearInputGradientArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "linear_input_gradient";
  require_matrix(kOp, "dy", args.dy);
  require_matrix(kOp, "w", args.w);
  const std::int64_t k = args.w.shape[1];
  require_fits(kOp, "w", args.w, {args.dy.shape[1], k}, args.dy);
  require_fits(kOp, "dx", args.dx, {args.dy.shape[0], k}, args.dy);
  const bool activated = args.activation != Activation::kNone;
  require<Error>(!(activated && args.accumulate), "[{}] cannot add to dx under an activation", kOp);
  require<Error>(activated || !(args.dbias || args.activated),
                 "[{}] dbias or activated without an activation", kOp);
  if (activated)
    require_fits(kOp, "pre", args.pre, args.dx.shape, args.dy);
  if (args.activated)
    require_fits(kOp, "activated", args.activated, args.dx.shape, args.dy);
  if (args.dbias)
    require_sums(kOp, "dbias", args.dbias, {k}, args.dy);
  dispatch(kOp, args.dy.device, stream, args.dy.dtype,
           [&]<class T>(auto backend) { linear_input_gradient<T>(backend, args); });
}

void linear_weight_gradient(const LinearWeightGradientArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "linear_weight_gradient";
  require_matrix(kOp, "dy", args.dy);
  require_matrix(kOp, "x", args.x);
  const std::int64_t n = args.dy.shape[1];
  require_fits(kOp, "x", args.x, {args.dy.shape[0], args.x.shape[1]}, args.dy);
  require_sums(kOp, "dw", args.dw, {n, args.x.shape[1]}, args.dy);
  if (args.dbias)
    require_sums(kOp, "dbias", args.dbias, {n}, args.dy);
  dispatch(kOp, args.dy.device, stream, args.dy.dtype,
           [&]<class T>(auto backend) { linear_weight_gradient<T>(backend, args); });
}

}  // namespace hew::kernels
