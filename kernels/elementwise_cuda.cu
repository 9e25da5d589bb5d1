#include "kernels/elementwise.h"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;

// y[i] ← f(i) over packs of n elements; f is given the first index and fills n values.
template <int n, class D, class F>
__global__ void map_kernel(D* y, std::int64_t count, F f) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x * n;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * n;
       i < count; i += stride) {
    ComputeType<D> out[n];
    f(i, out);
    store<D, n>(y + i, out);
  }
}

// Launches map_kernel with packs where addresses and count allow them. `make(n)` gives the functor
// for packs of n (an integral constant).
template <class D, class Make>
void map(Cuda backend, const char* name, D* y, std::int64_t count, bool packs, const Make& make) {
  if (count == 0)
    return;
  constexpr int kPack = kPackSize<D>;
  if (packs && count % kPack == 0 && packable(y)) {
    map_kernel<kPack><<<grid_for(backend, count / kPack, kThreads), kThreads, 0, native(backend)>>>(
        y, count, make(std::integral_constant<int, kPack>{}));
  } else {
    map_kernel<1><<<grid_for(backend, count, kThreads), kThreads, 0, native(backend)>>>(
        y, count, make(std::integral_constant<int, 1>{}));
  }
  check_launch(name);
}

template <class D, int n, bool product>
struct Combine {
  const D* a;
  const D* b;
  __device__ void operator()(std::int64_t i, ComputeType<D> (&out)[n]) const {
    ComputeType<D> x[n];
    ComputeType<D> y[n];
    load<D, n>(a + i, x);
    load<D, n>(b + i, y);
#pragma unroll
    for (int k = 0; k < n; ++k) out[k] = product ? x[k] * y[k] : x[k] + y[k];
  }
};

template <class D, int n>
struct Scale {
  const D* x;
  ComputeType<D> factor;
  __device__ void operator()(std::int64_t i, ComputeType<D> (&out)[n]) const {
    load<D, n>(x + i, out);
#pragma unroll
    for (int k = 0; k < n; ++k) out[k] *= factor;
  }
};

template <class D, int n>
struct Fill {
  ComputeType<D> value;
  __device__ void operator()(std::int64_t /*i*/, ComputeType<D> (&out)[n]) const {
#pragma unroll
    for (int k = 0; k < n; ++k) out[k] = value;
  }
};

// b repeats every `inner` elements, a multiple of n.
template <class D, int n>
struct AddBroadcast {
  const D* x;
  const D* b;
  std::int64_t inner;
  __device__ void operator()(std::int64_t i, ComputeType<D> (&out)[n]) const {
    ComputeType<D> shift[n];
    load<D, n>(x + i, out);
    load<D, n>(b + i % inner, shift);
#pragma unroll
    for (int k = 0; k < n; ++k) out[k] += shift[k];
  }
};

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

// partial[chunk, inner] ← Σ of the chunk's rows of x, in order. One thread a column.
template <class D, class Out>
__global__ void sum_rows_kernel(const D* x, Out* partial, std::int64_t outer, std::int64_t inner,
                                std::int64_t rows) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= inner)
    return;
  const std::int64_t begin = blockIdx.y * rows;
  const std::int64_t end = begin + rows < outer ? begin + rows : outer;
  ComputeType<D> sum = 0;
#pragma unroll 8
  for (std::int64_t row = begin; row < end; ++row) sum += widen(x[row * inner + column]);
  partial[blockIdx.y * inner + column] = narrow<Out>(static_cast<ComputeType<Out>>(sum));
}

// Rows are cut into chunks by their number alone, so that the result is always the same.
template <class D, class Out>
void sum_rows(Cuda backend, const D* x, Out* y, std::int64_t outer, std::int64_t inner) {
  using A = ComputeType<D>;
  constexpr std::int64_t kRows = 128;
  const auto columns = static_cast<unsigned int>(ceil_div(inner, kThreads));
  const std::int64_t chunks = std::max<std::int64_t>(1, std::min(ceil_div(outer, kRows), kRows));
  const std::int64_t rows = std::max<std::int64_t>(1, ceil_div(outer, chunks));
  if (chunks == 1) {
    sum_rows_kernel<<<dim3(columns), kThreads, 0, native(backend)>>>(x, y, outer, inner, rows);
    return check_launch("sum_leading");
  }
  Tensor partial = Tensor::empty({chunks, inner}, kDTypeOf<A>, backend.stream);
  sum_rows_kernel<<<dim3(columns, static_cast<unsigned int>(chunks)), kThreads, 0,
                    native(backend)>>>(x, partial.data<A>(), outer, inner, rows);
  check_launch("sum_leading");
  sum_rows_kernel<<<dim3(columns), kThreads, 0, native(backend)>>>(
      static_cast<const A*>(partial.data<A>()), y, chunks, inner, chunks);
  check_launch("sum_leading");
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
  map(backend, "add", elements<T>(y), y.numel(), packable(a.data, b.data), [&](auto n) {
    return Combine<D, n.value, false>{elements<T>(a), elements<T>(b)};
  });
}

template <class T>
void multiply(Cuda backend, const ConstView& a, const ConstView& b, const View& y) {
  using D = OnDevice<T>;
  map(backend, "multiply", elements<T>(y), y.numel(), packable(a.data, b.data), [&](auto n) {
    return Combine<D, n.value, true>{elements<T>(a), elements<T>(b)};
  });
}

template <class T>
void scale(Cuda backend, double factor, const View& y) {
  using D = OnDevice<T>;
  map(backend, "scale", elements<T>(y), y.numel(), true, [&](auto n) {
    return Scale<D, n.value>{elements<T>(y), static_cast<ComputeType<D>>(factor)};
  });
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
  map(backend, "fill", elements<T>(y), y.numel(), true,
      [&](auto n) { return Fill<D, n.value>{static_cast<ComputeType<D>>(value)}; });
}

template <class T>
void add_broadcast(Cuda backend, const ConstView& x, const ConstView& b, const View& y) {
  using D = OnDevice<T>;
  const bool packs = b.numel() % kPackSize<D> == 0 && packable(x.data, b.data);
  map(backend, "add_broadcast", elements<T>(y), y.numel(), packs, [&](auto n) {
    return AddBroadcast<D, n.value>{elements<T>(x), elements<T>(b), b.numel()};
  });
}

template <class T>
void sum_leading(Cuda backend, const ConstView& x, const View& y) {
  const std::int64_t inner = y.numel();
  if (inner == 0)
    return;
  const std::int64_t outer = x.numel() / inner;
  sum_rows(backend, elements<T>(x), elements<Accumulator<T>>(y), outer, inner);
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
