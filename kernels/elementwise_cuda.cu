#include "kernels/arrivals.cuh"
#include "kernels/elementwise.h"
#include "kernels/launch.cuh"
#include "kernels/map.cuh"
#include "kernels/partials.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;

template <class A, bool product>
struct Combine {
  __device__ void operator()(const A (&in)[2], A (&out)[1]) const {
    out[0] = product ? in[0] * in[1] : in[0] + in[1];
  }
};

template <class A>
struct Scale {
  A factor;
  __device__ void operator()(const A (&in)[1], A (&out)[1]) const { out[0] = in[0] * factor; }
};

template <class D>
__global__ void fill_kernel(D* y, std::int64_t count, ComputeType<D> value) {
  const D stored = narrow<D>(value);
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    y[i] = stored;
  }
}

constexpr int kAddBatch = 2;  // packs of x that a thread of add_broadcast has under way

// y ← x + b, where b repeats every `inner` elements. All in packs of n; `advance` is the stride of
// the grid modulo inner, so that no thread divides more than once.
template <int n, class D>
__global__ void __launch_bounds__(kThreads)
    add_broadcast_kernel(const Pack<D, n>* x, const Pack<D, n>* b, Pack<D, n>* y,
                         std::int64_t count, std::int64_t inner, std::int64_t advance) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  std::int64_t at = i % inner;
  for (; i < count; i += kAddBatch * stride) {
    Pack<D, n> value[kAddBatch];
    Pack<D, n> shift[kAddBatch];
#pragma unroll
    for (int k = 0; k < kAddBatch; ++k) {
      if (i + k * stride < count) {
        value[k] = x[i + k * stride];
        shift[k] = b[at];
      }
      at += advance;
      at -= at < inner ? 0 : inner;
    }
#pragma unroll
    for (int k = 0; k < kAddBatch; ++k) {
      if (i + k * stride < count) {
        ComputeType<D> sum[n];
#pragma unroll
        for (int j = 0; j < n; ++j) sum[j] = widen(value[k].lane[j]) + widen(shift[k].lane[j]);
        store<D, n>(y[i + k * stride].lane, sum);
      }
    }
  }
}

template <int n, class D>
void add_broadcast_packs(Cuda backend, const D* x, const D* b, D* y, std::int64_t count,
                         std::int64_t inner) {
  using P = Pack<D, n>;
  const unsigned int grid = grid_for(backend, ceil_div(count / n, kAddBatch), kThreads);
  const std::int64_t stride = static_cast<std::int64_t>(grid) * kThreads;
  add_broadcast_kernel<n><<<grid, kThreads, 0, native(backend)>>>(
      reinterpret_cast<const P*>(x), reinterpret_cast<const P*>(b), reinterpret_cast<P*>(y),
      count / n, inner / n, stride % (inner / n));
  check_launch("add_broadcast");
}

// Nothing is moved where there is nothing to do: what reaches a loss is mostly 1.
template <class D, int n>
__global__ void scale_by_kernel(const ComputeType<D>* factor, D* y, std::int64_t count) {
  const ComputeType<D> by = *factor;
  if (by == ComputeType<D>(1))
    return;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads * n;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * n;
       i < count; i += stride) {
    ComputeType<D> x[n];
    load<D, n>(y + i, x);
#pragma unroll
    for (int k = 0; k < n; ++k) x[k] *= by;
    store<D, n>(y + i, x);
  }
}

// Through double only where one side is double.
template <class From, class To>
__global__ void cast_kernel(const From* x, To* y, std::int64_t count) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    y[i] = narrow<To>(static_cast<ComputeType<To>>(widen(x[i])));
  }
}

template <class From, class To>
__global__ void cast_pack_kernel(const From* x, To* y, std::int64_t count) {
  constexpr int kPack = 4;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kPack;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kPack;
       i < count; i += stride) {
    ComputeType<From> in[kPack];
    ComputeType<To> out[kPack];
    load<From, kPack>(x + i, in);
#pragma unroll
    for (int k = 0; k < kPack; ++k) out[k] = static_cast<ComputeType<To>>(in[k]);
    store<To, kPack>(y + i, out);
  }
}

template <class From, class To>
void cast_between(Cuda backend, const ConstView& x, const View& y) {
  const std::int64_t count = x.numel();
  const OnDevice<From>* from = elements<From>(x);
  OnDevice<To>* to = elements<To>(y);
  if (count == 0)
    return;
  constexpr int kPack = 4;
  constexpr bool kNarrow = sizeof(From) <= 4 && sizeof(To) <= 4;
  if (kNarrow && count % kPack == 0 && packable(from, to)) {
    cast_pack_kernel<<<grid_for(backend, count / kPack, kThreads), kThreads, 0, native(backend)>>>(
        from, to, count);
  } else {
    cast_kernel<<<grid_for(backend, count, kThreads), kThreads, 0, native(backend)>>>(from, to,
                                                                                      count);
  }
  check_launch("cast");
}

template <class From>
void cast_from(Cuda backend, const ConstView& x, const View& y) {
  if (y.dtype == DType::kFloat32)
    return cast_between<From, float>(backend, x, y);
  if (y.dtype == DType::kFloat64)
    return cast_between<From, double>(backend, x, y);
  return cast_between<From, BFloat16>(backend, x, y);
}

// A block is 32 packs of columns wide and reads kRowsAtOnce rows at a time.
constexpr int kRowsAtOnce = 8;

template <class D>
struct SumRows {
  using A = ComputeType<D>;

  const D* x;  // [outer, inner]
  A* partial;  // [chunks, inner]
  A* y;        // [inner]
  std::int64_t outer;
  std::int64_t inner;
  std::int64_t chunk_rows;
  int* arrivals;  // a counter for each block column; null: y is not made here
};

// What the threads of a block share: sums of each of kRowsAtOnce rows.
template <class A, int n>
using BlockSums = A[kRowsAtOnce][n * kWarp];

// y of the block's columns ← Σ_chunk partial, always in the same order: a thread adds every
// kRows-th chunk for the columns of one 16-byte access.
template <int n, class D>
__device__ void add_chunks(const SumRows<D>& p, BlockSums<ComputeType<D>, n>& sums) {
  using A = ComputeType<D>;
  constexpr int kPack = n == 1 ? 1 : kPackSize<A>;
  constexpr int kAcross = n * kWarp / kPack;
  constexpr int kRows = kWarp * kRowsAtOnce / kAcross;
  static_assert(kRows <= kRowsAtOnce);
  constexpr int kBatch = 8;
  const int thread = static_cast<int>(threadIdx.y) * kWarp + static_cast<int>(threadIdx.x);
  const int across = thread % kAcross * kPack;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kWarp * n;
  const int chunks = static_cast<int>(gridDim.y);
  A sum[kPack] = {};
  if (first + across < p.inner) {
    const A* from = p.partial + first + across;
#pragma unroll kBatch
    for (int chunk = thread / kAcross; chunk < chunks; chunk += kRows) {
      A values[kPack];
      load<A, kPack>(from + chunk * p.inner, values);
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum[k] += values[k];
    }
  }
#pragma unroll
  for (int k = 0; k < kPack; ++k) sums[thread / kAcross][across + k] = sum[k];
  __syncthreads();
  if (thread >= n * kWarp || first + thread >= p.inner)
    return;
  A total = 0;
#pragma unroll
  for (int row = 0; row < kRows; ++row) total += sums[row][thread];
  p.y[first + thread] = total;
}

// partial[chunk, column] ← Σ of the chunk's rows of x, in order. x = column pack, y = chunk. Where
// there are counters, the last block of a column adds up the chunks.
template <int n, class D>
__global__ void __launch_bounds__(kWarp* kRowsAtOnce) sum_rows_kernel(const SumRows<D> p) {
  using A = ComputeType<D>;
  constexpr int kBatch = 4;
  __shared__ BlockSums<A, n> sums;
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x) * n;
  const std::int64_t begin = blockIdx.y * p.chunk_rows;
  const std::int64_t end = begin + p.chunk_rows < p.outer ? begin + p.chunk_rows : p.outer;
  A sum[n] = {};
  if (column < p.inner) {
    std::int64_t row = begin + threadIdx.y;
    const D* from = p.x + row * p.inner + column;
    const std::int64_t step = kRowsAtOnce * p.inner;
    for (; row + (kBatch - 1) * kRowsAtOnce < end; row += kBatch * kRowsAtOnce) {
      Pack<D, n> packs[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b, from += step) {
        packs[b] = *reinterpret_cast<const Pack<D, n>*>(from);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
#pragma unroll
        for (int j = 0; j < n; ++j) sum[j] += widen(packs[b].lane[j]);
      }
    }
    for (; row < end; row += kRowsAtOnce, from += step) {
      const auto pack = *reinterpret_cast<const Pack<D, n>*>(from);
#pragma unroll
      for (int j = 0; j < n; ++j) sum[j] += widen(pack.lane[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < n; ++j) sums[threadIdx.y][j * kWarp + threadIdx.x] = sum[j];
  __syncthreads();
  // Row y of the threads adds up lanes y, y + 8, … of the packs.
  for (int j = static_cast<int>(threadIdx.y); j < n; j += kRowsAtOnce) {
    A total = 0;
#pragma unroll
    for (int y = 0; y < kRowsAtOnce; ++y) total += sums[y][j * kWarp + threadIdx.x];
    if (column < p.inner)
      p.partial[blockIdx.y * p.inner + column + j] = total;
  }
  if (p.arrivals != nullptr && last_to_arrive(p.arrivals + blockIdx.x, static_cast<int>(gridDim.y)))
    add_chunks<n>(p, sums);
}

// Rows are cut into chunks by the shape alone, so that the result is always the same. Up to
// kFewChunks of them are added up by the kernel that makes them, which saves a launch.
template <class D>
void sum_rows(Cuda backend, const D* x, ComputeType<D>* y, std::int64_t outer, std::int64_t inner) {
  using A = ComputeType<D>;
  constexpr int kPack = kPackSize<D>;
  constexpr std::int64_t kMinRows = 64;
  constexpr std::int64_t kMaxChunks = 1024;
  constexpr std::int64_t kFewChunks = 128;
  // Where few chunks are enough: with so many blocks, of no more rows than that.
  constexpr std::int64_t kFewBlocks = 512;
  constexpr std::int64_t kFewRows = 32768;
  const bool packs = inner % kPack == 0 && packable(x);
  const std::int64_t across = ceil_div(packs ? inner / kPack : inner, kWarp);
  const bool few = outer <= kFewRows && across * kFewChunks >= kFewBlocks;
  const std::int64_t chunk_rows =
      std::max(kMinRows, ceil_div(outer, few ? kFewChunks : kMaxChunks));
  const std::int64_t chunks = std::max<std::int64_t>(1, ceil_div(outer, chunk_rows));
  const bool here = chunks > 1 && chunks <= kFewChunks;
  Tensor partial = Tensor::empty({chunks == 1 ? 0 : chunks, inner}, kDTypeOf<A>, backend.stream);
  const SumRows<D> args{.x = x,
                        .partial = chunks == 1 ? y : partial.data<A>(),
                        .y = y,
                        .outer = outer,
                        .inner = inner,
                        .chunk_rows = chunk_rows,
                        .arrivals = here ? arrivals_of(backend, across) : nullptr};
  const dim3 grid(static_cast<unsigned int>(across), static_cast<unsigned int>(chunks));
  const dim3 block(kWarp, kRowsAtOnce);
  if (packs)
    sum_rows_kernel<kPack><<<grid, block, 0, native(backend)>>>(args);
  else
    sum_rows_kernel<1><<<grid, block, 0, native(backend)>>>(args);
  check_launch("sum_leading");
  if (chunks > 1 && !here)
    sum_partials<A>(backend, "sum_leading", args.partial, y, chunks, inner, inner);
}

template <class D>
__global__ void squares_kernel(const D* x, double* partial, std::int64_t count) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  double sum = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    const auto value = static_cast<double>(widen(x[i]));
    sum += value * value;
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0)
    partial[blockIdx.x] = sum;
}

}  // namespace

template <class T>
void add(Cuda backend, const ConstView& a, const ConstView& b, const View& y) {
  using D = OnDevice<T>;
  map<D>(backend, "add", {elements<T>(a), elements<T>(b)}, {elements<T>(y)}, y.numel(),
         Elementwise<Combine<ComputeType<D>, /*product=*/false>>{});
}

template <class T>
void multiply(Cuda backend, const ConstView& a, const ConstView& b, const View& y) {
  using D = OnDevice<T>;
  map<D>(backend, "multiply", {elements<T>(a), elements<T>(b)}, {elements<T>(y)}, y.numel(),
         Elementwise<Combine<ComputeType<D>, /*product=*/true>>{});
}

template <class T>
void scale(Cuda backend, double factor, const View& y) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  map<D>(backend, "scale", {elements<T>(y)}, {elements<T>(y)}, y.numel(),
         Elementwise<Scale<A>>{.f = {.factor = static_cast<A>(factor)}});
}

template <class T>
void scale_by(Cuda backend, const ConstView& factor, const View& y) {
  using D = OnDevice<T>;
  const std::int64_t count = y.numel();
  const Accumulator<T>* by = elements<Accumulator<T>>(factor);
  D* to = elements<T>(y);
  if (count == 0)
    return;
  constexpr int kPack = kPackSize<D>;
  if (count % kPack == 0 && packable(to)) {
    scale_by_kernel<D, kPack>
        <<<grid_for(backend, count / kPack, kThreads), kThreads, 0, native(backend)>>>(by, to,
                                                                                       count);
  } else {
    scale_by_kernel<D, 1>
        <<<grid_for(backend, count, kThreads), kThreads, 0, native(backend)>>>(by, to, count);
  }
  check_launch("scale_by");
}

template <class T>
void fill(Cuda backend, double value, const View& y) {
  using D = OnDevice<T>;
  const std::int64_t count = y.numel();
  if (count == 0)
    return;
  fill_kernel<<<grid_for(backend, count, kThreads), kThreads, 0, native(backend)>>>(
      elements<T>(y), count, static_cast<ComputeType<D>>(value));
  check_launch("fill");
}

template <class T>
void add_broadcast(Cuda backend, const ConstView& x, const ConstView& b, const View& y) {
  using D = OnDevice<T>;
  constexpr int kPack = kPackSize<D>;
  const std::int64_t count = y.numel();
  const std::int64_t inner = b.numel();
  if (count == 0)
    return;
  if (inner % kPack == 0 && packable(x.data, b.data, y.data))
    return add_broadcast_packs<kPack>(backend, elements<T>(x), elements<T>(b), elements<T>(y),
                                      count, inner);
  add_broadcast_packs<1>(backend, elements<T>(x), elements<T>(b), elements<T>(y), count, inner);
}

template <class T>
void sum_leading(Cuda backend, const ConstView& x, const View& y) {
  const std::int64_t inner = y.numel();
  if (inner == 0)
    return;
  const std::int64_t outer = x.numel() / inner;
  sum_rows(backend, elements<T>(x), y.as<Accumulator<T>>(), outer, inner);
}

template <class T>
double sum_of_squares(Cuda backend, const ConstView& x) {
  if (x.numel() == 0)
    return 0;
  const unsigned int blocks = grid_for(backend, x.numel(), kThreads);
  Tensor partial = Tensor::empty({blocks}, DType::kFloat64, backend.stream);
  squares_kernel<<<blocks, kThreads, 0, native(backend)>>>(elements<T>(x), partial.data<double>(),
                                                           x.numel());
  check_launch("sum_of_squares");
  double sum = 0;
  for (const double part : partial.to_vector<double>()) sum += part;
  return sum;
}

void cast(Cuda backend, const ConstView& x, const View& y) {
  if (x.dtype == DType::kFloat32)
    return cast_from<float>(backend, x, y);
  if (x.dtype == DType::kFloat64)
    return cast_from<double>(backend, x, y);
  return cast_from<BFloat16>(backend, x, y);
}

#define HEW_ELEMENTWISE(T)                                                               \
  template void add<T>(Cuda, const ConstView&, const ConstView&, const View&);           \
  template void multiply<T>(Cuda, const ConstView&, const ConstView&, const View&);      \
  template void scale<T>(Cuda, double, const View&);                                     \
  template void scale_by<T>(Cuda, const ConstView&, const View&);                        \
  template void fill<T>(Cuda, double, const View&);                                      \
  template void add_broadcast<T>(Cuda, const ConstView&, const ConstView&, const View&); \
  template void sum_leading<T>(Cuda, const ConstView&, const View&);                     \
  template double sum_of_squares<T>(Cuda, const ConstView&);
HEW_ELEMENTWISE(float)
HEW_ELEMENTWISE(double)
HEW_ELEMENTWISE(BFloat16)
#undef HEW_ELEMENTWISE

}  // namespace hew::kernels
