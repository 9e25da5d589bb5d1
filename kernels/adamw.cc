#include "kernels/adamw.h"

#include <utility>

namespace hew::kernels {

void adamw(const AdamWStep& settings, const AdamWTensors& tensors, const Stream& stream) {
  const View& w = tensors.w;
  const ConstView& birth = tensors.birth;
  for (const auto& [what, view] :
       {std::pair{"g", tensors.g}, {"m", ConstView(tensors.m)}, {"v", ConstView(tensors.v)}}) {
    require_fits("adamw", what, view, w.shape, w);
  }
  require_device("adamw", "birth", birth, w);
  require<DtypeError>(birth.dtype == DType::kInt64, "[adamw] birth is {}, expected int64",
                      name_of(birth.dtype));
  const std::int64_t slices = w.shape.rank() > 0 ? w.shape[0] : 1;
  require<ShapeError>(birth.shape == Shape{1} || birth.shape == Shape{slices},
                      "[adamw] birth has shape {}, expected [1] or [{}]", to_string(birth.shape),
                      slices);
  dispatch("adamw", w.device, stream, w.dtype,
           [&]<class T>(auto backend) { adamw<T>(backend, settings, tensors); });
}

}  // namespace hew::kernels
