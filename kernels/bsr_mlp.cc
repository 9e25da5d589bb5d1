#include "kernels/bsr_mlp.h"

namespace hew::kernels {

void bsr_mlp_forward(const BsrMlpArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "bsr_mlp_forward";
  require_bsr(kOp, args.up, args.up_values);
  require_bsr(kOp, args.down, args.down_values);
  require<ShapeError>(args.x.shape.rank() == 2 && args.x.shape[1] == args.up.cols,
                      "[{}] x has shape {}, expected [M, {}]", kOp, to_string(args.x.shape),
                      args.up.cols);
  require<ShapeError>(args.down.cols == args.up.rows, "[{}] down has {} columns, expected {}", kOp,
                      args.down.cols, args.up.rows);
  require_fits(kOp, "y", args.y, {args.x.shape[0], args.down.rows}, args.x);
  require_like(kOp, "up_values", args.up_values, args.x);
  require_like(kOp, "down_values", args.down_values, args.x);
  if (args.up_bias)
    require_fits(kOp, "up_bias", args.up_bias, {args.up.rows}, args.x);
  if (args.down_bias)
    require_fits(kOp, "down_bias", args.down_bias, {args.down.rows}, args.x);
  dispatch(kOp, args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { bsr_mlp_forward<T>(backend, args); });
}

}  // namespace hew::kernels
