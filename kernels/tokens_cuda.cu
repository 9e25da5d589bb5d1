#include <type_traits>

#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/tokens.h"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = kThreads / kWarp;

template <class D>
struct Join {
  const D* x;            // [B, T − front, C]
  const D* class_token;  // [C]
  const D* positions;    // [T, C]
  D* y;                  // [B, T, C]
  std::int64_t rows;     // B·T
  std::int64_t tokens;   // T
  std::int64_t front;    // 0 or 1
  std::int64_t width;    // C
};

// One warp a row.
template <int n, class D>
__global__ void __launch_bounds__(kThreads) join_kernel(Join<D> args) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kRowsPerBlock;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  for (; row < args.rows; row += stride) {
    const std::int64_t b = row / args.tokens;
    const std::int64_t t = row - b * args.tokens;
    const D* from = t < args.front
                        ? args.class_token
                        : args.x + (b * (args.tokens - args.front) + t - args.front) * args.width;
    const D* position = args.positions + t * args.width;
    D* to = args.y + row * args.width;
#pragma unroll 4
    for (std::int64_t c = threadIdx.x % kWarp * n; c < args.width; c += kWarp * n) {
      ComputeType<D> a[n];
      ComputeType<D> p[n];
      load<D, n>(from + c, a);
      load<D, n>(position + c, p);
#pragma unroll
      for (int k = 0; k < n; ++k) a[k] += p[k];
      store<D, n>(to + c, a);
    }
  }
}

// A block takes 32 packs of one sample's channels; each of its warps every 8th token.
template <int n, class D>
__global__ void __launch_bounds__(kThreads)
    mean_kernel(const D* x, D* y, std::int64_t tokens, std::int64_t width, std::int64_t slabs) {
  using A = ComputeType<D>;
  __shared__ A sums[kRowsPerBlock][kWarp][n];
  const std::int64_t b = blockIdx.x / slabs;
  const std::int64_t slab = blockIdx.x - b * slabs;
  const auto lane = static_cast<int>(threadIdx.x % kWarp);
  const auto warp = static_cast<int>(threadIdx.x / kWarp);
  const std::int64_t c = (slab * kWarp + lane) * n;
  A sum[n] = {};
  if (c < width) {
#pragma unroll 8
    for (std::int64_t t = warp; t < tokens; t += kRowsPerBlock) {
      A value[n];
      load<D, n>(x + (b * tokens + t) * width + c, value);
#pragma unroll
      for (int k = 0; k < n; ++k) sum[k] += value[k];
    }
  }
#pragma unroll
  for (int k = 0; k < n; ++k) sums[warp][lane][k] = sum[k];
  __syncthreads();
  if (warp > 0 || c >= width)
    return;
#pragma unroll
  for (int other = 1; other < kRowsPerBlock; ++other) {
#pragma unroll
    for (int k = 0; k < n; ++k) sum[k] += sums[other][lane][k];
  }
#pragma unroll
  for (int k = 0; k < n; ++k) sum[k] /= static_cast<A>(tokens);
  store<D, n>(y + b * width + c, sum);
}

// One warp a row of dx.
template <int n, class D>
__global__ void __launch_bounds__(kThreads)
    spread_kernel(const D* dy, D* dx, std::int64_t rows, std::int64_t tokens, std::int64_t width) {
  using A = ComputeType<D>;
  const A share = A(1) / static_cast<A>(tokens);
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kRowsPerBlock;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  for (; row < rows; row += stride) {
    const D* from = dy + row / tokens * width;
#pragma unroll 4
    for (std::int64_t c = threadIdx.x % kWarp * n; c < width; c += kWarp * n) {
      A value[n];
      load<D, n>(from + c, value);
#pragma unroll
      for (int k = 0; k < n; ++k) value[k] *= share;
      store<D, n>(dx + row * width + c, value);
    }
  }
}

// Calls `launch` with the elements of an access as a constant.
template <class D, class Launch>
void by_packs(bool packs, const Launch& launch) {
  if (packs) {
    launch(std::integral_constant<int, kPackSize<D>>{});
  } else {
    launch(std::integral_constant<int, 1>{});
  }
}

}  // namespace

template <class T>
void join_tokens(Cuda backend, const JoinTokens& args) {
  using D = OnDevice<T>;
  if (args.y.numel() == 0)
    return;
  const std::int64_t tokens = args.y.shape[1];
  const Join<D> join{.x = elements<T>(args.x),
                     .class_token = elements<T>(args.class_token),
                     .positions = elements<T>(args.positions),
                     .y = elements<T>(args.y),
                     .rows = args.y.shape[0] * tokens,
                     .tokens = tokens,
                     .front = tokens - args.x.shape[1],
                     .width = args.y.shape[2]};
  const bool packs = join.width % kPackSize<D> == 0 &&
                     packable(args.x.data, args.class_token.data, args.positions.data, args.y.data);
  by_packs<D>(packs, [&](auto n) {
    join_kernel<n.value>
        <<<grid_for(backend, join.rows, kRowsPerBlock), kThreads, 0, native(backend)>>>(join);
  });
  check_launch("join_tokens");
}

template <class T>
void mean_tokens(Cuda backend, const ConstView& x, const View& y) {
  using D = OnDevice<T>;
  if (y.numel() == 0)
    return;
  const std::int64_t width = x.shape[2];
  by_packs<D>(width % kPackSize<D> == 0 && packable(x.data, y.data), [&](auto n) {
    const std::int64_t slabs = ceil_div(width, kWarp * n.value);
    mean_kernel<n.value>
        <<<static_cast<unsigned int>(x.shape[0] * slabs), kThreads, 0, native(backend)>>>(
            elements<T>(x), elements<T>(y), x.shape[1], width, slabs);
  });
  check_launch("mean_tokens");
}

template <class T>
void mean_tokens_backward(Cuda backend, const ConstView& dy, const View& dx) {
  using D = OnDevice<T>;
  if (dx.numel() == 0)
    return;
  const std::int64_t width = dx.shape[2];
  const std::int64_t rows = dx.shape[0] * dx.shape[1];
  by_packs<D>(width % kPackSize<D> == 0 && packable(dy.data, dx.data), [&](auto n) {
    spread_kernel<n.value>
        <<<grid_for(backend, rows, kRowsPerBlock), kThreads, 0, native(backend)>>>(
            elements<T>(dy), elements<T>(dx), rows, dx.shape[1], width);
  });
  check_launch("mean_tokens_backward");
}

#define HEW_TOKENS(T)                                                \
  template void join_tokens<T>(Cuda, const JoinTokens&);             \
  template void mean_tokens<T>(Cuda, const ConstView&, const View&); \
  template void mean_tokens_backward<T>(Cuda, const ConstView&, const View&);
HEW_TOKENS(float)
HEW_TOKENS(double)
HEW_TOKENS(BFloat16)
#undef HEW_TOKENS

}  // namespace hew::kernels
