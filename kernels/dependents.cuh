#pragma once

#include "kernels/launch.cuh"

/// Kernels that follow each other at once: the thread blocks of the next one come in while those
/// of the one before it leave. On Hopper, whose code must be compiled for it (not as PTX for older
/// GPUs, in which nothing would wait); elsewhere they are ordinary kernels of a stream.
namespace hew::kernels {

/// At the start of a kernel that launch_dependent() queued: what the kernels before it wrote can be
/// read from here on.
__device__ inline void await_kernel_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// At the start of a kernel, where the next one of the stream calls await_kernel_before().
__device__ inline void allow_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Queues a kernel behind one that allows it.
template <class... Parameters>
void launch_dependent(Cuda backend, void (*kernel)(Parameters...), dim3 grid, unsigned int threads,
                      std::size_t shared, Parameters... parameters) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = native(backend);
  constexpr int kHopper = 90;
  config.attrs = &early;
  config.numAttrs = limits(backend).capability >= kHopper ? 1 : 0;
  cuda::check(cudaLaunchKernelEx(&config, kernel, parameters...), "cudaLaunchKernelEx");
}

}  // namespace hew::kernels
