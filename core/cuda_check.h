#pragma once

// Only for files that are compiled with CUDA.

#include <cuda_runtime_api.h>

#include <source_location>
#include <string_view>

#include "core/error.h"
#include "core/handle.h"
#include "core/stream.h"

namespace hew::cuda {

/// Throws BackendError with CUDA's own text unless `code` is success.
inline void check(cudaError_t code, std::string_view api,
                  std::source_location where = std::source_location::current()) {
  if (code != cudaSuccess)
    throw BackendError(api, static_cast<int>(code), cudaGetErrorString(code), where);
}

inline cudaStream_t native(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.native);
}

/// Makes a device current while it lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int index) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (index != before_)
      check(cudaSetDevice(index), "cudaSetDevice");
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice() { cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

struct StreamTraits {
  using Value = cudaStream_t;
  static Value null() { return nullptr; }
  static void destroy(Value stream) noexcept { cudaStreamDestroy(stream); }
};
using StreamHandle = UniqueHandle<StreamTraits>;

}  // namespace hew::cuda
