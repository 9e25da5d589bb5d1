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

void linear_input_gradient(const ConstView& dy, const ConstView& w, const View& dx,
                           const Stream& stream) {
  constexpr std::string_view kOp = "linear_input_gradient";
  require_matrix(kOp, "dy", dy);
  require_matrix(kOp, "w", w);
  require_shape(kOp, "w", w, {dy.shape[1], w.shape[1]});
  require_shape(kOp, "dx", dx, {dy.shape[0], w.shape[1]});
  require_like(kOp, "w", w, dy);
  require_like(kOp, "dx", dx, dy);
  dispatch(kOp, dy.device, stream, dy.dtype,
           [&]<class T>(auto backend) { linear_input_gradient<T>(backend, dy, w, dx); });
}

void linear_weight_gradient(const ConstView& dy, const ConstView& x, const View& dw,
                            bool accumulate, const Stream& stream) {
  constexpr std::string_view kOp = "linear_weight_gradient";
  require_matrix(kOp, "dy", dy);
  require_matrix(kOp, "x", x);
  require_shape(kOp, "x", x, {dy.shape[0], x.shape[1]});
  require_like(kOp, "x", x, dy);
  require_sums(kOp, "dw", dw, {dy.shape[1], x.shape[1]}, dy);
  dispatch(kOp, dy.device, stream, dy.dtype, [&]<class T>(auto backend) {
    linear_weight_gradient<T>(backend, dy, x, dw, accumulate);
  });
}

}  // namespace hew::kernels
