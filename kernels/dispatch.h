#pragma once

#include <string_view>
#include <utility>

#include "core/dtype.h"
#include "core/error.h"
#include "core/profiler.h"
#include "core/tensor.h"

namespace hew::kernels {

/// Tags that pick the implementation of a kernel by overload, with the stream it works on:
/// `template <class T> void rotary(Cpu, …)` in `rotary_cpu.cc`, the same with `Cuda` in
/// `rotary_cuda.cu`.
struct Cpu {
  const Stream& stream;
};
struct Cuda {
  const Stream& stream;
};

/// The one device × dtype branch: calls `body.template operator()<T>(Backend{stream})` with T =
/// float or double, on a GPU also BFloat16 (on the CPU that is storage: cast it first). Throws
/// BackendError where this build has no such device or `stream` is on another one, DtypeError on
/// other dtypes.
template <class Body>
void dispatch(std::string_view op, Device device, const Stream& stream, DType dtype, Body&& body) {
  if (device != stream.device) {
    throw BackendError(
        op, 0,
        fmt::format("data on {}, stream on {}", to_string(device), to_string(stream.device)));
  }
  const ProfiledRegion region(stream, op);
  auto unknown = [&] {
    return DtypeError(
        fmt::format("[{}] cannot compute in {} on {}", op, name_of(dtype), to_string(device)));
  };
  if (device.is_cpu()) {
    if (dtype == DType::kFloat32)
      return body.template operator()<float>(Cpu{stream});
    if (dtype == DType::kFloat64)
      return body.template operator()<double>(Cpu{stream});
    throw unknown();
  }
#ifdef HEW_CUDA
  if (dtype == DType::kFloat32)
    return body.template operator()<float>(Cuda{stream});
  if (dtype == DType::kFloat64)
    return body.template operator()<double>(Cuda{stream});
  if (dtype == DType::kBFloat16)
    return body.template operator()<BFloat16>(Cuda{stream});
  throw unknown();
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

/// Throws DtypeError unless `view` has `dtype`.
inline void require_dtype(std::string_view op, std::string_view what, const ConstView& view,
                          DType dtype) {
  require<DtypeError>(view.dtype == dtype, "[{}] {} is {}, expected {}", op, what,
                      name_of(view.dtype), name_of(dtype));
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
  require_dtype(op, what, view, like.dtype);
  require_device(op, what, view, like);
}

/// require_shape and require_like in one.
inline void require_fits(std::string_view op, std::string_view what, const ConstView& view,
                         const Shape& shape, const ConstView& like) {
  require_shape(op, what, view, shape);
  require_like(op, what, view, like);
}

/// The same for what is summed beside values of `like`'s dtype: statistics, losses, gradients of
/// parameters. It has the dtype accumulator_of(like.dtype).
inline void require_sums(std::string_view op, std::string_view what, const ConstView& view,
                         const Shape& shape, const ConstView& like) {
  require_shape(op, what, view, shape);
  require_dtype(op, what, view, accumulator_of(like.dtype));
  require_device(op, what, view, like);
}

}  // namespace hew::kernels
