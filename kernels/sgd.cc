#include "kernels/sgd.h"

namespace hew::kernels {

void sgd(const SgdStep& settings, const ConstView& g, const View& w, const View& buffer,
         const Stream& /*stream*/) {
  require_shape("sgd", "g", g, w.shape);
  require_like("sgd", "g", g, w);
  if (buffer) {
    require_shape("sgd", "buffer", buffer, w.shape);
    require_like("sgd", "buffer", buffer, w);
  }
  require<ConfigError>(buffer || settings.momentum == 0, "[sgd] momentum {} needs a buffer",
                       settings.momentum);
  dispatch("sgd", w.device, w.dtype,
           [&]<class T>(auto backend) { sgd<T>(backend, settings, g, w, buffer); });
}

}  // namespace hew::kernels
