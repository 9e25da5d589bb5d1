#include "kernels/launch.cuh"
#include "kernels/sgd.h"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;

template <class T>
struct Arrays {
  const T* g;
  T* w;
  T* buffer;               // may be null
  __nv_bfloat16* working;  // may be null
  std::int64_t count;
  std::int64_t packed;  // elements moved by 16 bytes; the rest one by one
};

template <class T>
struct Numbers {
  T lr;
  T momentum;
  T decay;
  bool nesterov;
  const double* grad_scale;  // may be null
};

// Elements [at, at + n).
template <int n, class T>
__device__ inline void update(const Arrays<T>& arrays, const Numbers<T>& s, std::int64_t at,
                              T scale) {
  T g[n];
  T w[n];
  T buffer[n];
  load<T, n>(arrays.g + at, g);
  load<T, n>(arrays.w + at, w);
  if (arrays.buffer != nullptr)
    load<T, n>(arrays.buffer + at, buffer);
  float rounded[n];
#pragma unroll
  for (int k = 0; k < n; ++k) {
    const T d = scale * g[k] + s.decay * w[k];
    T direction = d;
    if (arrays.buffer != nullptr) {
      buffer[k] = s.momentum * buffer[k] + d;
      direction = s.nesterov ? d + s.momentum * buffer[k] : buffer[k];
    }
    w[k] -= s.lr * direction;
    rounded[k] = static_cast<float>(w[k]);
  }
  store<T, n>(arrays.w + at, w);
  if (arrays.buffer != nullptr)
    store<T, n>(arrays.buffer + at, buffer);
  if (arrays.working != nullptr)
    store<__nv_bfloat16, n>(arrays.working + at, rounded);
}

template <class T>
__global__ void __launch_bounds__(kThreads) sgd_kernel(const Arrays<T> arrays, const Numbers<T> s) {
  const double wide_scale = s.grad_scale == nullptr ? 1.0 : *s.grad_scale;
  if (!isfinite(wide_scale))
    return;
  const auto scale = static_cast<T>(wide_scale);
  constexpr int kPack = kPackSize<T>;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (std::int64_t i = thread * kPack; i < arrays.packed; i += threads * kPack) {
    update<kPack>(arrays, s, i, scale);
  }
  for (std::int64_t i = arrays.packed + thread; i < arrays.count; i += threads) {
    update<1>(arrays, s, i, scale);
  }
}

}  // namespace

template <class T>
void sgd(Cuda backend, const SgdStep& settings, const SgdTensors& tensors) {
  const std::int64_t count = tensors.w.numel();
  if (count == 0)
    return;
  constexpr std::int64_t kPack = kPackSize<T>;
  const bool packs =
      packable(tensors.g.data, tensors.w.data, tensors.buffer.data, tensors.working.data);
  const std::int64_t packed = packs ? count / kPack * kPack : 0;
  const Arrays<T> arrays{.g = elements<T>(tensors.g),
                         .w = elements<T>(tensors.w),
                         .buffer = elements<T>(tensors.buffer),
                         .working = elements<BFloat16>(tensors.working),
                         .count = count,
                         .packed = packed};
  const Numbers<T> numbers{.lr = static_cast<T>(settings.lr),
                           .momentum = static_cast<T>(settings.momentum),
                           .decay = static_cast<T>(settings.weight_decay),
                           .nesterov = settings.nesterov,
                           .grad_scale = settings.grad_scale.as<double>()};
  const std::int64_t work = packs ? ceil_div(count, kPack) : count;
  sgd_kernel<<<grid_for(backend, work, kThreads), kThreads, 0, native(backend)>>>(arrays, numbers);
  check_launch("sgd");
}

template void sgd<float>(Cuda, const SgdStep&, const SgdTensors&);
template void sgd<double>(Cuda, const SgdStep&, const SgdTensors&);

}  // namespace hew::kernels
