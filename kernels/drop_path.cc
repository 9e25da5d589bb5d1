#include "kernels/drop_path.h"

namespace hew::kernels {

void drop_path(const DropPathOptions& options, const ConstView& x, const View& y,
               const Stream& stream) {
  require<ConfigError>(options.p >= 0 && options.p < 1, "[drop_path] p is {}, expected 0 <= p < 1",
                       options.p);
  require<ShapeError>(x.shape.rank() > 0, "[drop_path] x is a scalar, expected [B, ...]");
  require_fits("drop_path", "y", y, x.shape, x);
  dispatch("drop_path", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { drop_path<T>(backend, options, x, y); });
}

}  // namespace hew::kernels
