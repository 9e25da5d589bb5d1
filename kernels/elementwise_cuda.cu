#include "kernels/elementwise.h"
#include "kernels/launch.cuh"
#include "kernels/map.cuh"
#include "kernels/reduce.cuh"
#include "kernels/sum_rows.cuh"
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
struct Terms {
  const D* at[kMaxTerms];
  int count;
};

// In packs of n.
template <int n, class D>
__global__ void __launch_bounds__(kThreads)
    scaled_sum_kernel(Terms<D> terms, D* y, std::int64_t packs, ComputeType<D> factor) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < packs;
       i += stride) {
    ComputeType<D> sum[n];
    load<D, n>(terms.at[0] + i * n, sum);
#pragma unroll 4
    for (int k = 1; k < terms.count; ++k) {
      ComputeType<D> term[n];
      load<D, n>(terms.at[k] + i * n, term);
#pragma unroll
      for (int j = 0; j < n; ++j) sum[j] += term[j];
    }
#pragma unroll
    for (int j = 0; j < n; ++j) sum[j] *= factor;
    store<D, n>(y + i * n, sum);
  }
}

template <int n, class D>
void scaled_sum_packs(Cuda backend, const Terms<D>& terms, D* y, std::int64_t packs,
                      double factor) {
  if (packs == 0)
    return;
  scaled_sum_kernel<n><<<grid_for(backend, packs, kThreads), kThreads, 0, native(backend)>>>(
      terms, y, packs, static_cast<ComputeType<D>>(factor));
  check_launch("scaled_sum");
}

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
void scaled_sum(Cuda backend, std::span<const ConstView> terms, double factor, const View& y) {
  using D = OnDevice<T>;
  constexpr int kPack = kPackSize<D>;
  Terms<D> from{.count = static_cast<int>(terms.size())};
  D* to = elements<T>(y);
  bool packs = packable(to);
  for (std::size_t k = 0; k < terms.size(); ++k) {
    from.at[k] = elements<T>(terms[k]);
    packs = packs && packable(from.at[k]);
  }
  const std::int64_t packed = packs ? y.numel() / kPack * kPack : 0;
  scaled_sum_packs<kPack>(backend, from, to, packed / kPack, factor);
  for (int k = 0; k < from.count; ++k) from.at[k] += packed;
  scaled_sum_packs<1>(backend, from, to + packed, y.numel() - packed, factor);
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
  template void scaled_sum<T>(Cuda, std::span<const ConstView>, double, const View&);    \
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
