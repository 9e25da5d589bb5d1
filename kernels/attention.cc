#include "kernels/attention.h"

#include <cmath>

namespace hew::kernels {
namespace {

void check_inputs(std::string_view op, const ConstView& q, const ConstView& k, const ConstView& v,
                  const AttentionOptions& options) {
  require<ShapeError>(q.shape.rank() == 4 && q.shape[3] > 0,
                      "[{}] q has shape {}, expected [B, Tq, H, D]", op, to_string(q.shape));
  require<ShapeError>(
      k.shape.rank() == 4 && k.shape[0] == q.shape[0] && k.shape[1] > 0 && k.shape[3] == q.shape[3],
      "[{}] k has shape {}, expected [{}, Tk, Hkv, {}]", op, to_string(k.shape), q.shape[0],
      q.shape[3]);
  require<ShapeError>(k.shape[2] > 0 && q.shape[2] % k.shape[2] == 0,
                      "[{}] {} query heads are no multiple of {} key heads", op, q.shape[2],
                      k.shape[2]);
  require<ShapeError>(!options.causal || k.shape[1] >= q.shape[1],
                      "[{}] causal with {} queries and only {} keys", op, q.shape[1], k.shape[1]);
  require<ConfigError>(options.scale >= 0, "[{}] scale is {}, expected >= 0", op, options.scale);
  require_like(op, "k", k, q);
  require_fits(op, "v", v, k.shape, q);
}

Shape lse_shape(const ConstView& q) {
  return {q.shape[0], q.shape[2], q.shape[1]};
}

AttentionOptions resolved(AttentionOptions options, const ConstView& q) {
  if (options.scale == 0)
    options.scale = 1 / std::sqrt(static_cast<double>(q.shape[3]));
  return options;
}

}  // namespace

void attention_forward(const AttentionForward& args, const Stream& stream) {
  constexpr std::string_view kOp = "attention";
  check_inputs(kOp, args.q, args.k, args.v, args.options);
  require_fits(kOp, "y", args.y, args.q.shape, args.q);
  require_sums(kOp, "lse", args.lse, lse_shape(args.q), args.q);
  AttentionForward call = args;
  call.options = resolved(args.options, args.q);
  dispatch(kOp, args.q.device, stream, args.q.dtype,
           [&]<class T>(auto backend) { attention_forward<T>(backend, call); });
}

void attention_backward(const AttentionBackward& args, const Stream& stream) {
  constexpr std::string_view kOp = "attention_backward";
  check_inputs(kOp, args.q, args.k, args.v, args.options);
  require_fits(kOp, "y", args.y, args.q.shape, args.q);
  require_sums(kOp, "lse", args.lse, lse_shape(args.q), args.q);
  require_fits(kOp, "dy", args.dy, args.q.shape, args.q);
  require_fits(kOp, "dq", args.dq, args.q.shape, args.q);
  require_fits(kOp, "dk", args.dk, args.k.shape, args.q);
  require_fits(kOp, "dv", args.dv, args.k.shape, args.q);
  AttentionBackward call = args;
  call.options = resolved(args.options, args.q);
  dispatch(kOp, args.q.device, stream, args.q.dtype,
           [&]<class T>(auto backend) { attention_backward<T>(backend, call); });
}

}  // namespace hew::kernels
