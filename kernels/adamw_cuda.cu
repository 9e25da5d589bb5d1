#include <limits>

#include "kernels/adamw.h"
#include "kernels/launch.cuh"
#include "kernels/tensor_table.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 8192;       // elements of a block: 30 bytes each outweigh what it does first
constexpr int kSlices = kThreads;  // corrections a block keeps at a time

// A parameter, with moments of device type M.
template <class T, class M>
struct Entry {
  std::int64_t first_chunk;
  const T* g;
  T* w;
  M* m;
  M* v;
  __nv_bfloat16* working;  // may be null
  const std::int64_t* birth;
  std::int64_t count;
  std::int64_t slice;  // elements of one birth
  double lr;
  T decay;     // factor on w
  bool packs;  // 16-byte accesses are possible and stay within a slice
};

template <class T>
struct Numbers {
  double beta1;
  double beta2;
  std::int64_t step;
  const double* grad_scale;  // may be null
  T decay1;
  T decay2;
  T keep1;
  T keep2;
  T eps;
};

template <class T>
struct BiasCorrection {
  T step_size;  // lr/(1 − β1^t)
  T root2;      // √(1 − β2^t)
};

template <class T>
__device__ inline BiasCorrection<T> correction_of(const Numbers<T>& s, double lr,
                                                  std::int64_t birth) {
  const auto t = static_cast<double>(s.step - birth + 1);
  return {static_cast<T>(lr / (1 - pow(s.beta1, t))), static_cast<T>(sqrt(1 - pow(s.beta2, t)))};
}

// The slices that a chunk touches.
struct Slices {
  const std::int64_t* birth;  // of the first one
  int head;                   // elements of the chunk that are in the first one
  int length;                 // elements of the others, at most a chunk
  int count;

  template <class T, class M>
  __device__ static Slices of(const Entry<T, M>& e, std::int64_t begin, int size) {
    const std::int64_t index = begin / e.slice;
    const std::int64_t rest = (index + 1) * e.slice - begin;
    const int head = rest < size ? static_cast<int>(rest) : size;
    const int length = e.slice < kChunk ? static_cast<int>(e.slice) : kChunk;
    return {e.birth + index, head, length, 1 + (size - head + length - 1) / length};
  }
  // The slice of element k of the chunk, and a slice's first element.
  __device__ int at(int k) const { return k < head ? 0 : 1 + (k - head) / length; }
  __device__ int start(int i) const { return i == 0 ? 0 : head + (i - 1) * length; }
};

// Elements [at, at + n) of a parameter.
template <int n, class T, class M>
__device__ inline void update(const Entry<T, M>& e, const Numbers<T>& s, std::int64_t at, T scale,
                              const BiasCorrection<T>& correction) {
  T g[n];
  T w[n];
  ComputeType<M> m[n];
  ComputeType<M> v[n];
  load<T, n>(e.g + at, g);
  load<T, n>(e.w + at, w);
  load<M, n>(e.m + at, m);
  load<M, n>(e.v + at, v);
  float rounded[n];
#pragma unroll
  for (int k = 0; k < n; ++k) {
    const T grad = g[k] * scale;
    const T first = s.decay1 * static_cast<T>(m[k]) + s.keep1 * grad;
    const T second = s.decay2 * static_cast<T>(v[k]) + s.keep2 * (grad * grad);
    w[k] =
        e.decay * w[k] - correction.step_size * first / (sqrt(second) / correction.root2 + s.eps);
    m[k] = static_cast<ComputeType<M>>(first);
    v[k] = static_cast<ComputeType<M>>(second);
    rounded[k] = static_cast<float>(w[k]);
  }
  store<T, n>(e.w + at, w);
  store<M, n>(e.m + at, m);
  store<M, n>(e.v + at, v);
  if (e.working != nullptr)
    store<__nv_bfloat16, n>(e.working + at, rounded);
}

template <class T, class M>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 5 : 3)
    adamw_kernel(const Entry<T, M>* entries, int count, const Numbers<T> s) {
  const double wide_scale = s.grad_scale == nullptr ? 1.0 : *s.grad_scale;
  if (!isfinite(wide_scale))
    return;  // all threads of the grid
  const auto scale = static_cast<T>(wide_scale);
  __shared__ Entry<T, M> e;  // here rather than in registers, for more blocks at a time
  const int owner = owner_of(entries, count, blockIdx.x);
  if (threadIdx.x == 0)
    e = entries[owner];
  __syncthreads();
  const std::int64_t begin = (blockIdx.x - e.first_chunk) * kChunk;
  const int size = e.count - begin < kChunk ? static_cast<int>(e.count - begin) : kChunk;

  __shared__ BiasCorrection<T> table[kSlices];
  const Slices slices = Slices::of(e, begin, size);
  for (int first = 0; first < slices.count; first += kSlices) {
    const int own = first + static_cast<int>(threadIdx.x);
    __syncthreads();  // the last round's readers are done
    if (own < slices.count)
      table[threadIdx.x] = correction_of(s, e.lr, slices.birth[own]);
    __syncthreads();
    constexpr int kPack = kPackSize<T>;
    const int from = slices.start(first);
    const int to = min(size, slices.start(first + kSlices));
    const int packed = e.packs ? from + (to - from) / kPack * kPack : from;
    for (int k = from + static_cast<int>(threadIdx.x) * kPack; k < packed; k += kThreads * kPack) {
      update<kPack>(e, s, begin + k, scale, table[slices.at(k) - first]);
    }
    for (int k = packed + static_cast<int>(threadIdx.x); k < to; k += kThreads) {
      update<1>(e, s, begin + k, scale, table[slices.at(k) - first]);
    }
  }
}

template <class T, class M>
Entry<T, OnDevice<M>> entry_of(const AdamWStep& settings, const AdamWTensors& one,
                               std::int64_t first_chunk) {
  const std::int64_t count = one.w.numel();
  const std::int64_t births = one.birth.numel();
  const std::int64_t slice = births == 0 ? count : count / births;
  return {.first_chunk = first_chunk,
          .g = elements<T>(one.g),
          .w = elements<T>(one.w),
          .m = elements<M>(one.m),
          .v = elements<M>(one.v),
          .working = elements<BFloat16>(one.working),
          .birth = one.birth.as<std::int64_t>(),
          .count = count,
          .slice = slice,
          .lr = settings.lr * one.lr_factor,
          .decay = static_cast<T>(1 - settings.lr * one.weight_decay),
          .packs = packable(one.g.data, one.w.data, one.m.data, one.v.data, one.working.data) &&
                   (births == 1 || slice % kPackSize<T> == 0)};
}

template <class T, class M>
void update_all(Cuda backend, const AdamWStep& settings, std::span<const AdamWTensors> tensors) {
  using E = Entry<T, OnDevice<M>>;
  std::vector<E> entries;
  entries.reserve(tensors.size());
  std::int64_t chunks = 0;
  for (const AdamWTensors& one : tensors) {
    entries.push_back(entry_of<T, M>(settings, one, chunks));
    chunks += ceil_div(one.w.numel(), kChunk);
  }
  if (chunks == 0)
    return;
  require<ShapeError>(chunks <= std::numeric_limits<int>::max(), "[adamw] {} chunks are too many",
                      chunks);
  const Tensor table = upload(entries, backend.stream);
  const Numbers<T> numbers{.beta1 = settings.beta1,
                           .beta2 = settings.beta2,
                           .step = settings.step,
                           .grad_scale = settings.grad_scale.as<double>(),
                           .decay1 = static_cast<T>(settings.beta1),
                           .decay2 = static_cast<T>(settings.beta2),
                           .keep1 = static_cast<T>(1 - settings.beta1),
                           .keep2 = static_cast<T>(1 - settings.beta2),
                           .eps = static_cast<T>(settings.eps)};
  adamw_kernel<<<static_cast<unsigned int>(chunks), kThreads, 0, native(backend)>>>(
      entries_of<E>(table), static_cast<int>(entries.size()), numbers);
  check_launch("adamw");
}

}  // namespace

template <class T>
void adamw(Cuda backend, const AdamWStep& settings, std::span<const AdamWTensors> tensors) {
  if (tensors.empty())
    return;
  if (tensors.front().m.dtype == DType::kBFloat16) {
    update_all<T, BFloat16>(backend, settings, tensors);
  } else {
    update_all<T, T>(backend, settings, tensors);
  }
}

template void adamw<float>(Cuda, const AdamWStep&, std::span<const AdamWTensors>);
template void adamw<double>(Cuda, const AdamWStep&, std::span<const AdamWTensors>);

}  // namespace hew::kernels
