#pragma once

#include <cmath>
#include <string_view>

#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {

/// LayerNormForward and RmsNormForward for a kernel; null for what is not there.
template <class D>
struct NormForward {
  const D* x;
  const D* residual = nullptr;
  const D* weight;
  const D* bias = nullptr;
  D* sum = nullptr;
  D* y;
  ComputeType<D>* mean = nullptr;
  ComputeType<D>* rstd;
  std::int64_t rows;
  std::int64_t width;
  ComputeType<D> eps;
};

/// Threads of a block that normalises a row, or with fewer lanes a row for each warp.
inline constexpr int kNormThreads = 128;

/// Sum over the `lanes` threads of one row, a warp or the block.
template <int lanes, class A>
__device__ inline A row_sum(A value) {
  if constexpr (lanes == kWarp)
    return warp_sum(value);
  else
    return block_sum<lanes>(value);
}

/// load() of what no kernel writes meanwhile, so that it may be moved ahead of stores.
template <class D, int n>
__device__ inline void load_constant(const D* from, ComputeType<D> (&to)[n]) {
  static_assert(sizeof(Pack<D, n>) == sizeof(uint4));
  const uint4 words = __ldg(reinterpret_cast<const uint4*>(from));
  load<D, n>(reinterpret_cast<const D*>(&words), to);
}

// A row stays in the registers of `lanes` threads, at most `packs` packs of 16 bytes each.
template <bool centred, int lanes, int packs, class D>
__global__ void __launch_bounds__(lanes < kNormThreads ? kNormThreads : lanes)
    norm_forward_kernel(NormForward<D> args) {
  using A = ComputeType<D>;
  constexpr int n = kPackSize<D>;
  using P = Pack<D, n>;
  constexpr int kRows = lanes < kNormThreads ? kNormThreads / lanes : 1;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kRows + (kRows > 1 ? threadIdx.x / lanes : 0);
  if (row >= args.rows)
    return;  // a whole warp: blocks of one row have no spare threads
  const int lane = static_cast<int>(threadIdx.x % lanes);
  const int row_packs = static_cast<int>(args.width / n);
  const A share = A(1) / static_cast<A>(args.width);
  const P* x = reinterpret_cast<const P*>(args.x + row * args.width);

  P values[packs];
#pragma unroll
  for (int k = 0; k < packs; ++k) {
    const int at = lane + k * lanes;
    if (at < row_packs)
      values[k] = x[at];
  }
  if (args.residual != nullptr) {
    const P* residual = reinterpret_cast<const P*>(args.residual + row * args.width);
    P* sum = reinterpret_cast<P*>(args.sum + row * args.width);
    P added[packs];
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      const int at = lane + k * lanes;
      if (at < row_packs)
        added[k] = residual[at];
    }
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      const int at = lane + k * lanes;
      if (at < row_packs) {
#pragma unroll
        for (int j = 0; j < n; ++j) {
          values[k].lane[j] = narrow<D>(widen(values[k].lane[j]) + widen(added[k].lane[j]));
        }
        sum[at] = values[k];
      }
    }
  }

  A mean = 0;
  if constexpr (centred) {
    A total = 0;
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      if (lane + k * lanes < row_packs) {
#pragma unroll
        for (int j = 0; j < n; ++j) total += widen(values[k].lane[j]);
      }
    }
    mean = row_sum<lanes>(total) * share;
  }
  A squares = 0;
#pragma unroll
  for (int k = 0; k < packs; ++k) {
    if (lane + k * lanes < row_packs) {
#pragma unroll
      for (int j = 0; j < n; ++j) {
        const A value = widen(values[k].lane[j]) - mean;
        squares += value * value;
      }
    }
  }
  const A rstd = A(1) / std::sqrt(row_sum<lanes>(squares) * share + args.eps);
  if (lane == 0) {
    if constexpr (centred)
      args.mean[row] = mean;
    args.rstd[row] = rstd;
  }

  P* y = reinterpret_cast<P*>(args.y + row * args.width);
#pragma unroll
  for (int k = 0; k < packs; ++k) {
    const int at = lane + k * lanes;
    if (at < row_packs) {
      A weight[n];
      A bias[n] = {};
      load_constant<D, n>(args.weight + at * n, weight);
      if (centred && args.bias != nullptr)
        load_constant<D, n>(args.bias + at * n, bias);
      A out[n];
#pragma unroll
      for (int j = 0; j < n; ++j) {
        out[j] = (widen(values[k].lane[j]) - mean) * rstd * weight[j] + bias[j];
      }
      store<D, n>(reinterpret_cast<D*>(y + at), out);
    }
  }
}

// Any width and alignment: a block reads its row again for every step.
template <bool centred, class D>
__global__ void __launch_bounds__(256) norm_forward_any_kernel(NormForward<D> args) {
  using A = ComputeType<D>;
  constexpr int kThreads = 256;
  const std::int64_t begin = blockIdx.x * args.width;
  const A share = A(1) / static_cast<A>(args.width);
  const D* x = args.x + begin;
  A total = 0;
  for (std::int64_t c = threadIdx.x; c < args.width; c += kThreads) {
    D value = x[c];
    if (args.residual != nullptr) {
      value = narrow<D>(widen(value) + widen(args.residual[begin + c]));
      args.sum[begin + c] = value;
    }
    total += widen(value);
  }
  if (args.residual != nullptr)
    x = args.sum + begin;  // every thread reads what it wrote
  const A mean = centred ? block_sum<kThreads>(total) * share : A(0);
  A squares = 0;
  for (std::int64_t c = threadIdx.x; c < args.width; c += kThreads) {
    const A value = widen(x[c]) - mean;
    squares += value * value;
  }
  const A rstd = A(1) / std::sqrt(block_sum<kThreads>(squares) * share + args.eps);
  if (threadIdx.x == 0) {
    if constexpr (centred)
      args.mean[blockIdx.x] = mean;
    args.rstd[blockIdx.x] = rstd;
  }
  for (std::int64_t c = threadIdx.x; c < args.width; c += kThreads) {
    A out = (widen(x[c]) - mean) * rstd * widen(args.weight[c]);
    if (centred && args.bias != nullptr)
      out += widen(args.bias[c]);
    args.y[begin + c] = narrow<D>(out);
  }
}

template <bool centred, int lanes, int packs, class D>
void launch_norm_forward(Cuda backend, const NormForward<D>& args) {
  constexpr int kThreads = lanes < kNormThreads ? kNormThreads : lanes;
  const auto blocks = static_cast<unsigned int>(ceil_div(args.rows, kThreads / lanes));
  norm_forward_kernel<centred, lanes, packs><<<blocks, kThreads, 0, native(backend)>>>(args);
}

/// Launches the kernel with just enough packs a lane: of a warp for up to 8, else of a block.
template <bool centred, class D>
void norm_forward(Cuda backend, std::string_view name, const NormForward<D>& args) {
  if (args.rows == 0)
    return;
  constexpr int kMaxPacks = 8 * 512;
  const std::int64_t packs = args.width / kPackSize<D>;
  const bool packed = args.width % kPackSize<D> == 0 && packs <= kMaxPacks &&
                      packable(args.x, args.residual, args.weight, args.bias, args.sum, args.y);
  if (!packed) {
    norm_forward_any_kernel<centred>
        <<<static_cast<unsigned int>(args.rows), 256, 0, native(backend)>>>(args);
    return check_launch(name);
  }
  switch (packs <= 8 * kWarp ? ceil_div(packs, kWarp) : 0) {
    case 1:
      launch_norm_forward<centred, kWarp, 1>(backend, args);
      break;
    case 2:
      launch_norm_forward<centred, kWarp, 2>(backend, args);
      break;
    case 3:
      launch_norm_forward<centred, kWarp, 3>(backend, args);
      break;
    case 4:
      launch_norm_forward<centred, kWarp, 4>(backend, args);
      break;
    case 5:
      launch_norm_forward<centred, kWarp, 5>(backend, args);
      break;
    case 6:
      launch_norm_forward<centred, kWarp, 6>(backend, args);
      break;
    case 7:
    case 8:
      launch_norm_forward<centred, kWarp, 8>(backend, args);
      break;
    default:
      if (packs <= 4 * 128)
        launch_norm_forward<centred, 128, 4>(backend, args);
      else if (packs <= 8 * 128)
        launch_norm_forward<centred, 128, 8>(backend, args);
      else
        launch_norm_forward<centred, 512, 8>(backend, args);
  }
  check_launch(name);
}

}  // namespace hew::kernels
