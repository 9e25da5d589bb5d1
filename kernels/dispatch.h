#pragma once

#include <string_view>
#include <utility>

#include "core/dtype.h"
#include "core/error.h"
#include "core/tensor.h"

namespace hew::kernels {

/// Tags that pick the implementation of a kernel by overload: `template <class T> void
/// layer_norm_forward(Cpu, …)` in `layer_norm_cpu.cc`, the same with `Cuda` in
/// `layer_norm_cuda.cu`.
struct Cpu {};
struct Cuda {};

/// The one device × dtype branch: calls `body.template operator()<T>(Backend{})` with T = float or
/// double. Throws BackendError where this build has no such device, DtypeError on other dtypes
/// (bfloat16 is storage on the CPU: cast it first).
template <class Body>
void dispatch(std::string_view op, Device device, DType dtype, Body&& body) {
  auto with_backend = [&](auto backend) {
    if (dtype == DType::kFloat32)
      return body.template operator()<float>(backend);
    if (dtype == DType::kFloat64)
      return body.template operator()<double>(backend);
    throw DtypeError(fmt::format("[{}] cannot compute in {}", op, name_of(dtype)));
  };
  if (device.is_cpu())
    return with_backend(Cpu{});
#ifdef HEW_CUDA
  return with_backend(Cuda{});
#else
  throw BackendError(op, 0, "this build has no CUDA (configure with the preset cuda)");
#endif
}

/// Throws ShapeError unless `view` has `shape`. `what` names the argument.
inline void require_shape(std::string_view op, std::string_view what, const ConstView& view,
                          const Shape& shape) {
  require<ShapeError>(view.shape == shape, "[{}] {} has shape {}, expected {}", op, what,
                      to_string(view.shape), to_string(shape));
}

/// Throws BackendError unless `view` lies on `like`'s device.
inline void require_device(std::string_view op, std::string_view what, const ConstView& view,
                           const ConstView& like) {
  if (view.device != like.device) {
    throw BackendError(op, 0,
                       fmt::format("{} is on {}, expected {}", what, to_string(view.device),
                                   to_string(like.device)));
  }
}

/// Throws DtypeError / BackendError unless `view` has `like`'s dtype and device.
inline void require_like(std::string_view op, std::string_view what, const ConstView& view,
                         const ConstView& like) {
  require<DtypeError>(view.dtype == like.dtype, "[{}] {} is {}, expected {}", op, what,
                      name_of(view.dtype), name_of(like.dtype));
  require_device(op, what, view, like);
}

/// require_shape and require_like in one.
inline void require_fits(std::string_view op, std::string_view what, const ConstView& view,
                         const Shape& shape, const ConstView& like) {
  require_shape(op, what, view, shape);
  require_like(op, what, view, like);
}

}  // namespace hew::kernels
