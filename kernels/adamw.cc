#include "kernels/adamw.h"

#include <type_traits>
#include <utility>

namespace hew::kernels {
namespace {

void check(const AdamWTensors& tensors, const AdamWTensors& first) {
  const View& w = tensors.w;
  require_like("adamw", "w", w, first.w);
  require_fits("adamw", "g", tensors.g, w.shape, w);
  const DType moments = first.m.dtype;
  require<DtypeError>(moments == w.dtype || moments == DType::kBFloat16,
                      "[adamw] m is {}, expected {} or bfloat16", name_of(moments),
                      name_of(w.dtype));
  for (const auto& [what, moment] : {std::pair{"m", tensors.m}, {"v", tensors.v}}) {
    require_fits("adamw", what, moment, w.shape, first.m);
    require_device("adamw", what, moment, w);
  }
  if (tensors.working) {
    require_shape("adamw", "working", tensors.working, w.shape);
    require_dtype("adamw", "working", tensors.working, DType::kBFloat16);
    require_device("adamw", "working", tensors.working, w);
  }
  const ConstView& birth = tensors.birth;
  require_device("adamw", "birth", birth, w);
  require_dtype("adamw", "birth", birth, DType::kInt64);
  const std::int64_t slices = w.shape.rank() > 0 ? w.shape[0] : 1;
  require<ShapeError>(birth.shape == Shape{1} || birth.shape == Shape{slices},
                      "[adamw] birth has shape {}, expected [1] or [{}]", to_string(birth.shape),
                      slices);
}

}  // namespace

void adamw(const AdamWStep& settings, std::span<const AdamWTensors> tensors, const Stream& stream) {
  if (tensors.empty())
    return;
  const View& first = tensors.front().w;
  require<DtypeError>(first.dtype == DType::kFloat32 || first.dtype == DType::kFloat64,
                      "[adamw] w is {}, expected float32 or float64", name_of(first.dtype));
  for (const AdamWTensors& one : tensors) check(one, tensors.front());
  if (settings.grad_scale) {
    require_shape("adamw", "grad_scale", settings.grad_scale, {});
    require_dtype("adamw", "grad_scale", settings.grad_scale, DType::kFloat64);
    require_device("adamw", "grad_scale", settings.grad_scale, first);
  }
  dispatch("adamw", first.device, stream, first.dtype, [&]<class T>(auto backend) {
    if constexpr (!std::is_same_v<T, BFloat16>) {
      adamw<T>(backend, settings, tensors);
    }
  });
}

}  // namespace hew::kernels
