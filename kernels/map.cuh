#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include "kernels/launch.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {

/// Arrays of one length that map() reads or writes.
template <class D, int arrays>
struct Arrays {
  D* at[arrays];
};

// f.operator()<n>(i, in, out) over packs of n elements: i is the index of the first one, in[input]
// holds its n values, out[output] takes them.
template <int n, int batch, class D, int inputs, int outputs, class F>
__global__ void __launch_bounds__(256)
    map_kernel(Arrays<const D, inputs> x, Arrays<D, outputs> y, std::int64_t count, F f) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x * n;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * n;
  for (std::int64_t begin = first; begin < count; begin += batch * stride) {
    // All loads of a batch before its first store, which the compiler cannot move them across.
    Pack<D, n> packs[batch][inputs];
#pragma unroll
    for (int b = 0; b < batch; ++b) {
      const std::int64_t i = begin + b * stride;
      if (i < count) {
#pragma unroll
        for (int k = 0; k < inputs; ++k) {
          packs[b][k] = *reinterpret_cast<const Pack<D, n>*>(x.at[k] + i);
        }
      }
    }
#pragma unroll
    for (int b = 0; b < batch; ++b) {
      const std::int64_t i = begin + b * stride;
      if (i < count) {
        ComputeType<D> in[inputs][n];
        ComputeType<D> out[outputs][n];
#pragma unroll
        for (int k = 0; k < inputs; ++k) {
#pragma unroll
          for (int j = 0; j < n; ++j) in[k][j] = widen(packs[b][k].lane[j]);
        }
        f.template operator()<n>(i, in, out);
#pragma unroll
        for (int k = 0; k < outputs; ++k) store<D, n>(y.at[k] + i, out[k]);
      }
    }
  }
}

/// f over `count` elements of arrays of which an output may be an input: in 16-byte packs where
/// addresses and `count` allow them, unless `packs` is false.
template <class D, int inputs, int outputs, class F>
void map(Cuda backend, std::string_view name, const D* const (&x)[inputs], D* const (&y)[outputs],
         std::int64_t count, const F& f, bool packs = true) {
  if (count == 0)
    return;
  constexpr int kThreads = 256;
  constexpr int kPack = kPackSize<D>;
  constexpr int kBatch = inputs > 2 ? 2 : 4;
  Arrays<const D, inputs> from;
  Arrays<D, outputs> to;
  packs = packs && count % kPack == 0;
  for (int k = 0; k < inputs; ++k) {
    from.at[k] = x[k];
    packs = packs && packable(x[k]);
  }
  for (int k = 0; k < outputs; ++k) {
    to.at[k] = y[k];
    packs = packs && packable(y[k]);
  }
  if (packs) {
    const unsigned int grid = grid_for(backend, ceil_div(count / kPack, kBatch), kThreads);
    map_kernel<kPack, kBatch><<<grid, kThreads, 0, native(backend)>>>(from, to, count, f);
  } else {
    const unsigned int grid = grid_for(backend, ceil_div(count, kBatch), kThreads);
    map_kernel<1, kBatch><<<grid, kThreads, 0, native(backend)>>>(from, to, count, f);
  }
  check_launch(name);
}

/// Makes f(in, out), for one element, what map() calls.
template <class F>
struct Elementwise {
  F f;
  template <int n, class A, int inputs, int outputs>
  __device__ void operator()(std::int64_t /*i*/, const A (&in)[inputs][n],
                             A (&out)[outputs][n]) const {
#pragma unroll
    for (int j = 0; j < n; ++j) {
      A one[inputs];
      A result[outputs];
#pragma unroll
      for (int k = 0; k < inputs; ++k) one[k] = in[k][j];
      f(one, result);
#pragma unroll
      for (int k = 0; k < outputs; ++k) out[k][j] = result[k];
    }
  }
};

}  // namespace hew::kernels
