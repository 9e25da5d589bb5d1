#include "kernels/sgd.h"

#include <type_traits>

namespace hew::kernels {
namespace {

void check(const SgdStep& settings, const SgdTensors& tensors, const View& first) {
  const View& w = tensors.w;
  require_like("sgd", "w", w, first);
  require_fits("sgd", "g", tensors.g, w.shape, w);
  if (tensors.buffer) {
    require_fits("sgd", "buffer", tensors.buffer, w.shape, w);
  }
  if (tensors.working) {
    require_shape("sgd", "working", tensors.working, w.shape);
    require_dtype("sgd", "working", tensors.working, DType::kBFloat16);
    require_device("sgd", "working", tensors.working, w);
  }
  require<ConfigError>(tensors.buffer || settings.momentum == 0, "[sgd] momentum {} needs a buffer",
                       settings.momentum);
}

}  // namespace

void sgd(const SgdStep& settings, std::span<const SgdTensors> tensors, const Stream& stream) {
  if (tensors.empty())
    return;
  const View& first = tensors.front().w;
  require<DtypeError>(first.dtype == DType::kFloat32 || first.dtype == DType::kFloat64,
                      "[sgd] w is {}, expected float32 or float64", name_of(first.dtype));
  for (const SgdTensors& one : tensors) check(settings, one, first);
  if (settings.grad_scale) {
    require_shape("sgd", "grad_scale", settings.grad_scale, {});
    require_dtype("sgd", "grad_scale", settings.grad_scale, DType::kFloat64);
    require_device("sgd", "grad_scale", settings.grad_scale, first);
  }
  dispatch("sgd", first.device, stream, first.dtype, [&]<class T>(auto backend) {
    if constexpr (!std::is_same_v<T, BFloat16>) {
      sgd<T>(backend, settings, tensors);
    }
  });
}

}  // namespace hew::kernels
