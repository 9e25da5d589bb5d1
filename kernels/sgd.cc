#include "kernels/sgd.h"

namespace hew::kernels {

void sgd(const SgdStep& settings, const ConstView& g, const View& w, const View& buffer,
         const Stream& stream) {
  require_fits("sgd", "g", g, w.shape, w);
  if (buffer) {
    require_fits("sgd", "buffer", buffer, w.shape, w);
  }
  require<ConfigError>(buffer || settings.momentum == 0, "[sgd] momentum {} needs a buffer",
                       settings.momentum);
  dispatch("sgd", w.device, stream, w.dtype,
           [&]<class T>(auto backend) { sgd<T>(backend, settings, g, w, buffer); });
}

}  // namespace hew::kernels
