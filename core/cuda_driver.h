#pragma once

// Only for files that are compiled with CUDA.

#include <cuda.h>

#include "core/cuda_check.h"

namespace hew::cuda {

/// A function of CUDA's driver, `driver_function<decltype(cuMemCreate)>("cuMemCreate")`, found at
/// run time: the program starts on a machine without a driver. Throws BackendError where the driver
/// does not have it.
template <class Function>
Function* driver_function(const char* name) {
  constexpr unsigned int kVersion = 12000;  // of the interface these functions have
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result), name);
  if (result != cudaDriverEntryPointSuccess)
    throw BackendError(name, static_cast<int>(result), "the driver does not have it");
  return reinterpret_cast<Function*>(found);
}

/// Throws BackendError unless `code` is success.
inline void check_driver(CUresult code, const char* api) {
  if (code != CUDA_SUCCESS)
    throw BackendError(api, static_cast<int>(code), "the driver refused it");
}

}  // namespace hew::cuda
