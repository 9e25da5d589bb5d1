#pragma once

#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"

namespace hew::kernels {

/// out[c] ← Σ_chunk partial[chunk·stride + c], c < width, always added in the same order. A block
/// of 32 × 32 threads: 32 columns, every 32nd chunk a row of threads.
template <class A>
__global__ void __launch_bounds__(1024)
    sum_partials_kernel(const A* partial, A* out, int chunks, std::int64_t stride,
                        std::int64_t width) {
  __shared__ A sums[kWarp][kWarp + 1];
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  A sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int chunk = static_cast<int>(threadIdx.y); chunk < chunks; chunk += kWarp) {
      sum += partial[chunk * stride + column];
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  const A total = warp_sum(sums[threadIdx.x][threadIdx.y]);
  const std::int64_t summed = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.y;
  if (threadIdx.x == 0 && summed < width)
    out[summed] = total;
}

template <class A>
void sum_partials(Cuda backend, std::string_view name, const A* partial, A* out,
                  std::int64_t chunks, std::int64_t stride, std::int64_t width) {
  if (width == 0)
    return;
  sum_partials_kernel<<<static_cast<unsigned int>(ceil_div(width, kWarp)), dim3(kWarp, kWarp), 0,
                        native(backend)>>>(partial, out, static_cast<int>(chunks), stride, width);
  check_launch(name);
}

}  // namespace hew::kernels
