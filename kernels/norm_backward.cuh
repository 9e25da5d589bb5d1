#pragma once

#include <cuda_pipeline.h>

#include <algorithm>
#include <string_view>

#include "kernels/launch.cuh"
#include "kernels/partials.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {

/// LayerNormBackward and RmsNormBackward for a kernel; null for what is not there.
template <class D>
struct NormBackward {
  using A = ComputeType<D>;
  const D* x;
  const D* weight;
  const A* mean = nullptr;
  const A* rstd;
  const D* dy;
  const D* dsum = nullptr;
  D* dx;
  A* dweight = nullptr;
  A* dbias = nullptr;
  std::int64_t rows;
  std::int64_t width;
  A* partial = nullptr;  // [chunks, dweight and with a mean dbias, width]

  bool wants_sums() const { return dweight != nullptr || dbias != nullptr; }
};

/// Threads that a multiprocessor has registers for.
template <class D, int packs>
inline constexpr int norm_resident = packs == 1 && sizeof(D) < 8 ? 768 : 512;

// A thread owns the same `packs` packs of columns of all rows of its block, `rows` at a time:
//   xhat = (x − mean)·rstd,  g = dy·weight,  dx = rstd·(g − mean(g) − xhat·mean(g·xhat)) + dsum
// and the sums of dy·xhat and dy over those rows. Without `centred` both means of LayerNorm are 0.
// The next rows are on their way to shared memory meanwhile; every thread reads only what it
// fetched itself, so the one barrier is that of the sums over a row.
template <bool centred, bool past, int packs, int rows, int threads, class D>
struct NormBackwardRows {
  using A = ComputeType<D>;
  static constexpr int n = kPackSize<D>;
  using P = Pack<D, n>;
  static constexpr int kArrays = past ? 3 : 2;  // x, dy, dsum
  static constexpr int kStages = 2;
  static constexpr int kSums = centred ? 2 * rows : rows;  // Σ g·(x − mean) of every row, then Σ g

  static std::int64_t shared_bytes(std::int64_t block) {
    return kStages * kArrays * rows * packs * block * static_cast<std::int64_t>(sizeof(P));
  }

  struct Statistics {
    A mean[rows];
    A rstd[rows];
  };

  __device__ static int column_pack(int k) {
    return static_cast<int>(threadIdx.x + k * blockDim.x);
  }

  __device__ static P& slot(P* stages, int stage, int array, int r, int k) {
    return stages[(((stage * kArrays + array) * rows + r) * packs + k) * blockDim.x + threadIdx.x];
  }

  // to ← 16 bytes, zeros after the first `bytes`; without a branch, unlike __pipeline_memcpy_async.
  __device__ static void copy_async(P& to, const D* from, int bytes) {
    static_assert(sizeof(P) == 16);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(static_cast<unsigned int>(__cvta_generic_to_shared(&to))), "l"(from),
                   "r"(bytes)
                 : "memory");
  }

  // Rows from `first` on, zeros past the last one and past the last column.
  __device__ static void fetch(const NormBackward<D>& args, std::int64_t first, P* stages,
                               int stage, Statistics& next) {
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const bool live_row = first + r < args.rows;
      next.mean[r] = centred && live_row ? args.mean[first + r] : A(0);
      next.rstd[r] = live_row ? args.rstd[first + r] : A(0);
#pragma unroll
      for (int k = 0; k < packs; ++k) {
        const bool live = live_row && column_pack(k) < args.width / n;
        const std::int64_t at = live ? (first + r) * args.width + column_pack(k) * n : 0;
        const int bytes = live ? static_cast<int>(sizeof(P)) : 0;
        copy_async(slot(stages, stage, 0, r, k), args.x + at, bytes);
        copy_async(slot(stages, stage, 1, r, k), args.dy + at, bytes);
        if constexpr (past)
          copy_async(slot(stages, stage, 2, r, k), args.dsum + at, bytes);
      }
    }
  }

  // Over the threads of the block, in every one of them.
  __device__ static void add_up(A (&sums)[kSums], A (*shared)[kSums]) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) sums[s] = warp_sum(sums[s]);
    if (threadIdx.x % kWarp == 0) {
#pragma unroll
      for (int s = 0; s < kSums; ++s) shared[threadIdx.x / kWarp][s] = sums[s];
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < kSums; ++s) sums[s] = 0;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    for (int warp = 0; warp < warps; ++warp) {
#pragma unroll
      for (int s = 0; s < kSums; ++s) sums[s] += shared[warp][s];
    }
  }

  __device__ static void store_sums(const NormBackward<D>& args, const A (&dweight)[packs][n],
                                    const A (&dbias)[packs][n]) {
    constexpr int m = n < kPackSize<A> ? n : kPackSize<A>;
    A* partial = args.partial + blockIdx.x * (centred ? 2 : 1) * args.width;
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      const int column = column_pack(k) * n;
      if (column < args.width) {
#pragma unroll
        for (int j = 0; j < n; j += m) {
          A weights[m];
          A biases[m];
#pragma unroll
          for (int i = 0; i < m; ++i) {
            weights[i] = dweight[k][j + i];
            biases[i] = dbias[k][j + i];
          }
          store<A, m>(partial + column + j, weights);
          if constexpr (centred)
            store<A, m>(partial + args.width + column + j, biases);
        }
      }
    }
  }
};

template <bool centred, bool past, int packs, int rows, int threads, class D>
__global__ void __launch_bounds__(threads, norm_resident<D, packs> / threads)
    norm_backward_kernel(NormBackward<D> args) {
  using Rows = NormBackwardRows<centred, past, packs, rows, threads, D>;
  using A = typename Rows::A;
  using P = typename Rows::P;
  constexpr int n = Rows::n;
  extern __shared__ uint4 norm_stages[];
  P* stages = reinterpret_cast<P*>(norm_stages);
  // Two copies: a warp may write its next sums while another still reads these.
  __shared__ alignas(16) A shared[2][threads / kWarp][Rows::kSums];
  const A share = A(1) / static_cast<A>(args.width);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * rows;
  std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * rows;

  P weight[packs];
  A dweight[packs][n] = {};
  A dbias[packs][n] = {};
#pragma unroll
  for (int k = 0; k < packs; ++k) {
    weight[k] = P{};
    if (Rows::column_pack(k) < args.width / n)
      weight[k] = reinterpret_cast<const P*>(args.weight)[Rows::column_pack(k)];
  }
  typename Rows::Statistics next{};
  if (first < args.rows)
    Rows::fetch(args, first, stages, 0, next);
  __pipeline_commit();
  for (int stage = 0; first < args.rows; first += step, stage ^= 1) {
    const typename Rows::Statistics now = next;
    if (first + step < args.rows)
      Rows::fetch(args, first + step, stages, stage ^ 1, next);
    __pipeline_commit();
    __pipeline_wait_prior(1);  // these rows are here, the next ones need not be

    A sums[Rows::kSums] = {};
#pragma unroll
    for (int r = 0; r < rows; ++r) {
#pragma unroll
      for (int k = 0; k < packs; ++k) {
        const P x = Rows::slot(stages, stage, 0, r, k);
        const P dy = Rows::slot(stages, stage, 1, r, k);
#pragma unroll
        for (int j = 0; j < n; ++j) {
          const A slope = widen(dy.lane[j]);
          const A offset = widen(x.lane[j]) - now.mean[r];
          const A g = slope * widen(weight[k].lane[j]);
          sums[r] += g * offset;
          dweight[k][j] += slope * now.rstd[r] * offset;
          if constexpr (centred) {
            sums[rows + r] += g;
            dbias[k][j] += slope;
          }
        }
      }
    }
    Rows::add_up(sums, shared[stage]);
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const A rstd = now.rstd[r];
      const A along = rstd * rstd * (sums[r] * share);  // rstd·mean(g·xhat)
      A mean_g = 0;
      if constexpr (centred)
        mean_g = sums[rows + r] * share;
#pragma unroll
      for (int k = 0; k < packs; ++k) {
        if (first + r < args.rows && Rows::column_pack(k) < args.width / n) {
          const P x = Rows::slot(stages, stage, 0, r, k);
          const P dy = Rows::slot(stages, stage, 1, r, k);
          A out[n];
#pragma unroll
          for (int j = 0; j < n; ++j) {
            const A offset = widen(x.lane[j]) - now.mean[r];
            const A g = widen(dy.lane[j]) * widen(weight[k].lane[j]);
            out[j] = rstd * (g - mean_g - offset * along);
          }
          if constexpr (past) {
            const P dsum = Rows::slot(stages, stage, 2, r, k);
#pragma unroll
            for (int j = 0; j < n; ++j) out[j] += widen(dsum.lane[j]);
          }
          store<D, n>(args.dx + (first + r) * args.width + Rows::column_pack(k) * n, out);
        }
      }
    }
  }
  if (args.partial != nullptr)
    Rows::store_sums(args, dweight, dbias);
}

// Any width and alignment. partial of the block's rows; one thread a column. y = chunk.
template <bool centred, class D>
__global__ void __launch_bounds__(256)
    norm_sums_any_kernel(NormBackward<D> args, std::int64_t chunk_rows) {
  using A = ComputeType<D>;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= args.width)
    return;
  const std::int64_t begin = blockIdx.y * chunk_rows;
  const std::int64_t end = begin + chunk_rows < args.rows ? begin + chunk_rows : args.rows;
  A dweight = 0;
  A dbias = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const A slope = widen(args.dy[row * args.width + column]);
    const A mean = centred ? args.mean[row] : A(0);
    dweight += slope * (widen(args.x[row * args.width + column]) - mean) * args.rstd[row];
    dbias += slope;
  }
  A* partial = args.partial + blockIdx.y * (centred ? 2 : 1) * args.width;
  partial[column] = dweight;
  if constexpr (centred)
    partial[args.width + column] = dbias;
}

template <bool centred, class D>
__global__ void __launch_bounds__(256) norm_dx_any_kernel(NormBackward<D> args) {
  using A = ComputeType<D>;
  constexpr int kThreads = 256;
  const std::int64_t begin = blockIdx.x * args.width;
  const A share = A(1) / static_cast<A>(args.width);
  const A mean = centred ? args.mean[blockIdx.x] : A(0);
  const A rstd = args.rstd[blockIdx.x];
  A sum_g = 0;
  A sum_gx = 0;
  for (std::int64_t c = threadIdx.x; c < args.width; c += kThreads) {
    const A g = widen(args.dy[begin + c]) * widen(args.weight[c]);
    sum_g += g;
    sum_gx += g * (widen(args.x[begin + c]) - mean) * rstd;
  }
  const A mean_g = centred ? block_sum<kThreads>(sum_g) * share : A(0);
  const A mean_gx = block_sum<kThreads>(sum_gx) * share;
  for (std::int64_t c = threadIdx.x; c < args.width; c += kThreads) {
    const A g = widen(args.dy[begin + c]) * widen(args.weight[c]);
    const A xhat = (widen(args.x[begin + c]) - mean) * rstd;
    A out = rstd * (g - mean_g - xhat * mean_gx);
    if (args.dsum != nullptr)
      out += widen(args.dsum[begin + c]);
    args.dx[begin + c] = narrow<D>(out);
  }
}

/// dweight and dbias from the partial sums of `chunks` blocks.
template <bool centred, class D>
void finish_norm_sums(Cuda backend, std::string_view name, const NormBackward<D>& args,
                      std::int64_t chunks) {
  const std::int64_t stride = (centred ? 2 : 1) * args.width;
  if (args.dweight != nullptr)
    sum_partials(backend, name, args.partial, args.dweight, chunks, stride, args.width);
  if (centred && args.dbias != nullptr) {
    sum_partials(backend, name, args.partial + args.width, args.dbias, chunks, stride, args.width);
  }
}

template <bool centred, class D>
Tensor norm_partials(Cuda backend, NormBackward<D>& args, std::int64_t chunks) {
  using A = ComputeType<D>;
  if (!args.wants_sums())
    return {};
  Tensor partial =
      Tensor::empty({chunks, centred ? 2 : 1, args.width}, kDTypeOf<A>, backend.stream);
  args.partial = partial.data<A>();
  return partial;
}

template <bool centred, class D>
void norm_backward_any(Cuda backend, std::string_view name, NormBackward<D> args) {
  constexpr std::int64_t kMinRows = 64;
  constexpr std::int64_t kMaxChunks = 256;
  const std::int64_t chunk_rows = std::max(kMinRows, ceil_div(args.rows, kMaxChunks));
  const std::int64_t chunks = std::max<std::int64_t>(1, ceil_div(args.rows, chunk_rows));
  const Tensor partial = norm_partials<centred>(backend, args, chunks);
  // The sums first: dx may overwrite dy.
  if (args.wants_sums()) {
    const dim3 grid(static_cast<unsigned int>(ceil_div(args.width, 256)),
                    static_cast<unsigned int>(chunks));
    norm_sums_any_kernel<centred><<<grid, 256, 0, native(backend)>>>(args, chunk_rows);
    check_launch(name);
    finish_norm_sums<centred>(backend, name, args, chunks);
  }
  if (args.rows == 0)
    return;
  norm_dx_any_kernel<centred>
      <<<static_cast<unsigned int>(args.rows), 256, 0, native(backend)>>>(args);
  check_launch(name);
}

template <bool centred, bool past, int packs, int rows, int threads, class D>
void launch_norm_backward(Cuda backend, std::string_view name, NormBackward<D> args) {
  using Rows = NormBackwardRows<centred, past, packs, rows, threads, D>;
  const std::int64_t row_packs = args.width / kPackSize<D>;
  const std::int64_t block = ceil_div(ceil_div(row_packs, packs), kWarp) * kWarp;
  const std::int64_t shared = Rows::shared_bytes(block);
  constexpr std::int64_t kOther = 2048;  // bytes, at least the sums'
  if (shared + kOther > limits(backend).shared_memory)
    return norm_backward_any<centred>(backend, name, args);
  // As many blocks as an H100 holds at once, whatever the device: so the sums depend on shapes
  // alone.
  constexpr std::int64_t kMultiprocessors = 132;
  const std::int64_t most =
      kMultiprocessors * std::max<std::int64_t>(1, norm_resident<D, packs> / block);
  const std::int64_t blocks = std::clamp<std::int64_t>(ceil_div(args.rows, rows), 1, most);
  const Tensor partial = norm_partials<centred>(backend, args, blocks);
  const auto kernel = norm_backward_kernel<centred, past, packs, rows, threads, D>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared)),
              "cudaFuncSetAttribute");
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared),
              "cudaFuncSetAttribute");
  kernel<<<static_cast<unsigned int>(blocks), static_cast<unsigned int>(block),
           static_cast<std::size_t>(shared), native(backend)>>>(args);
  check_launch(name);
  if (args.wants_sums())
    finish_norm_sums<centred>(backend, name, args, blocks);
}

template <bool centred, bool past, class D>
void norm_backward_packed(Cuda backend, std::string_view name, const NormBackward<D>& args) {
  constexpr int n = kPackSize<D>;
  const std::int64_t packs = args.width / n;
  // A thread has registers for the sums of 16 columns.
  if (packs <= 256)
    return launch_norm_backward<centred, past, 1, 2, 256>(backend, name, args);
  if (packs <= 512)
    return launch_norm_backward<centred, past, 2, 2, 256>(backend, name, args);
  if (packs <= 1024)
    return launch_norm_backward<centred, past, 2, 1, 512>(backend, name, args);
  if constexpr (n < 8) {
    if (packs <= 2048)
      return launch_norm_backward<centred, past, 4, 1, 512>(backend, name, args);
  }
  norm_backward_any<centred>(backend, name, args);
}

template <bool centred, class D>
void norm_backward(Cuda backend, std::string_view name, const NormBackward<D>& args) {
  const bool packed =
      args.width % kPackSize<D> == 0 && packable(args.x, args.weight, args.dy, args.dsum, args.dx);
  if (!packed)
    return norm_backward_any<centred>(backend, name, args);
  if (args.dsum != nullptr)
    return norm_backward_packed<centred, true>(backend, name, args);
  norm_backward_packed<centred, false>(backend, name, args);
}

}  // namespace hew::kernels
