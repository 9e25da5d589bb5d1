#include "kernels/dropout.h"

namespace hew::kernels {

void dropout(const DropoutOptions& options, const ConstView& x, const View& y,
             const Stream& stream) {
  require<ConfigError>(options.p >= 0 && options.p < 1, "[dropout] p is {}, expected 0 <= p < 1",
                       options.p);
  require_fits("dropout", "y", y, x.shape, x);
  dispatch("dropout", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { dropout<T>(backend, options, x, y); });
}

}  // namespace hew::kernels
