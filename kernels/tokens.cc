#include "kernels/tokens.h"

namespace hew::kernels {
namespace {

void check_mean(std::string_view op, const ConstView& all, const ConstView& mean) {
  require<ShapeError>(all.shape.rank() == 3 && all.shape[1] > 0,
                      "[{}] tokens have shape {}, expected [B, T, C]", op, to_string(all.shape));
  require_fits(op, "mean", mean, {all.shape[0], all.shape[2]}, all);
}

}  // namespace

void join_tokens(const JoinTokens& args, const Stream& stream) {
  constexpr std::string_view kOp = "join_tokens";
  const Shape& shape = args.x.shape;
  require<ShapeError>(shape.rank() == 3, "[{}] x has shape {}, expected [B, n, C]", kOp,
                      to_string(shape));
  const bool front = args.class_token.data != nullptr;
  const std::int64_t tokens = shape[1] + (front ? 1 : 0);
  if (front)
    require_fits(kOp, "class_token", args.class_token, {shape[2]}, args.x);
  require_fits(kOp, "positions", args.positions, {tokens, shape[2]}, args.x);
  require_fits(kOp, "y", args.y, {shape[0], tokens, shape[2]}, args.x);
  dispatch(kOp, args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { join_tokens<T>(backend, args); });
}

void mean_tokens(const ConstView& x, const View& y, const Stream& stream) {
  check_mean("mean_tokens", x, y);
  dispatch("mean_tokens", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { mean_tokens<T>(backend, x, y); });
}

void mean_tokens_backward(const ConstView& dy, const View& dx, const Stream& stream) {
  check_mean("mean_tokens_backward", dx, dy);
  dispatch("mean_tokens_backward", dy.device, stream, dy.dtype,
           [&]<class T>(auto backend) { mean_tokens_backward<T>(backend, dy, dx); });
}

}  // namespace hew::kernels
