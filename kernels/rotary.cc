#include "kernels/rotary.h"

namespace hew::kernels {

void rotary(const Rotary& args, const Stream& stream) {
  require<ShapeError>(args.x.shape.rank() == 4 && args.x.shape[3] % 2 == 0,
                      "[rotary] x has shape {}, expected [B, T, H, D] with an even D",
                      to_string(args.x.shape));
  require<ConfigError>(args.theta > 0 && args.offset >= 0,
                       "[rotary] theta {} and offset {}, expected theta > 0 and offset >= 0",
                       args.theta, args.offset);
  require_fits("rotary", "y", args.y, args.x.shape, args.x);
  dispatch("rotary", args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { rotary<T>(backend, args); });
}

}  // namespace hew::kernels
