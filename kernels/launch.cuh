#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <source_location>
#include <string_view>

#include "core/cuda_check.h"
#include "core/cuda_device.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// The device's own type for a dtype's host type.
template <class T>
struct DeviceTypeOf {
  using Type = T;
};
template <>
struct DeviceTypeOf<BFloat16> {
  using Type = __nv_bfloat16;
};
template <class T>
using OnDevice = typename DeviceTypeOf<T>::Type;

/// The elements of a view of dtype T, for a kernel.
template <class T>
const OnDevice<T>* elements(const ConstView& view) {
  return reinterpret_cast<const OnDevice<T>*>(view.as<T>());
}
template <class T>
OnDevice<T>* elements(const View& view) {
  return reinterpret_cast<OnDevice<T>*>(view.as<T>());
}

inline cudaStream_t native(Cuda backend) {
  return cuda::native(backend.stream);
}

/// What the device can do, read once a stream: `limits(backend).multiprocessors`.
struct DeviceLimits {
  explicit DeviceLimits(const Stream& stream) : capability(cuda::compute_capability(stream)) {
    cuda::check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount,
                                       stream.device.index),
                "cudaDeviceGetAttribute");
    cuda::check(cudaDeviceGetAttribute(&shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                       stream.device.index),
                "cudaDeviceGetAttribute");
  }
  int multiprocessors = 0;
  int shared_memory = 0;  // bytes a block may ask for
  int capability = 0;     // what kernels are chosen by: 80 for Ampere, 90 for Hopper
};

inline const DeviceLimits& limits(Cuda backend) {
  return backend.stream.state->get<DeviceLimits>(backend.stream);
}

/// Throws BackendError if the last launch failed. Once after every launch.
inline void check_launch(std::string_view kernel,
                         std::source_location where = std::source_location::current()) {
  cuda::check(cudaGetLastError(), kernel, where);
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Blocks for a grid-stride loop over `work` items of `threads` at a time: enough to fill the
/// device a few times over, and no more than there is work.
inline unsigned int grid_for(Cuda backend, std::int64_t work, int threads) {
  constexpr std::int64_t kBlocksPerMultiprocessor = 16;
  const std::int64_t most = limits(backend).multiprocessors * kBlocksPerMultiprocessor;
  return static_cast<unsigned int>(std::clamp<std::int64_t>(ceil_div(work, threads), 1, most));
}

}  // namespace hew::kernels
