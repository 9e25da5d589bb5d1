#include "kernels/adamw.h"

#include <utility>

namespace hew::kernels {

void adamw(const AdamWStep& settings, const ConstView& g, const ConstView& birth, const View& w,
           const View& m, const View& v, const Stream& /*stream*/) {
  for (const auto& [what, view] : {std::pair{"g", g}, {"m", ConstView(m)}, {"v", ConstView(v)}}) {
    require_shape("adamw", what, view, w.shape);
    require_like("adamw", what, view, w);
  }
  require<DtypeError>(birth.dtype == DType::kInt64, "[adamw] birth is {}, expected int64",
                      name_of(birth.dtype));
  const std::int64_t slices = w.shape.rank() > 0 ? w.shape[0] : 1;
  require<ShapeError>(birth.shape == Shape{1} || birth.shape == Shape{slices},
                      "[adamw] birth has shape {}, expected [1] or [{}]", to_string(birth.shape),
                      slices);
  dispatch("adamw", w.device, w.dtype,
           [&]<class T>(auto backend) { adamw<T>(backend, settings, g, birth, w, m, v); });
}

}  // namespace hew::kernels
