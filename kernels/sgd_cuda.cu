#include <limits>

#include "kernels/launch.cuh"
#include "kernels/sgd.h"
#include "kernels/tensor_table.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 8192;  // elements of a block

template <class T>
struct Entry {
  std::int64_t first_chunk;
  const T* g;
  T* w;
  T* buffer;               // may be null
  __nv_bfloat16* working;  // may be null
  std::int64_t count;
  T lr;
  T decay;
  bool packs;  // 16-byte accesses are possible
};

template <class T>
struct Numbers {
  T momentum;
  bool nesterov;
  const double* grad_scale;  // may be null
};

// Elements [at, at + n) of a parameter.
template <int n, class T>
__device__ inline void update(const Entry<T>& e, const Numbers<T>& s, std::int64_t at, T scale) {
  T g[n];
  T w[n];
  T buffer[n];
  load<T, n>(e.g + at, g);
  load<T, n>(e.w + at, w);
  if (e.buffer != nullptr)
    load<T, n>(e.buffer + at, buffer);
  float rounded[n];
#pragma unroll
  for (int k = 0; k < n; ++k) {
    const T d = scale * g[k] + e.decay * w[k];
    T direction = d;
    if (e.buffer != nullptr) {
      buffer[k] = s.momentum * buffer[k] + d;
      direction = s.nesterov ? d + s.momentum * buffer[k] : buffer[k];
    }
    w[k] -= e.lr * direction;
    rounded[k] = static_cast<float>(w[k]);
  }
  store<T, n>(e.w + at, w);
  if (e.buffer != nullptr)
    store<T, n>(e.buffer + at, buffer);
  if (e.working != nullptr)
    store<__nv_bfloat16, n>(e.working + at, rounded);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sgd_kernel(const Entry<T>* entries, int count, const Numbers<T> s) {
  const double wide_scale = s.grad_scale == nullptr ? 1.0 : *s.grad_scale;
  if (!isfinite(wide_scale))
    return;  // all threads of the grid
  const auto scale = static_cast<T>(wide_scale);
  const Entry<T> e = entries[owner_of(entries, count, blockIdx.x)];
  const std::int64_t begin = (blockIdx.x - e.first_chunk) * kChunk;
  const int size = e.count - begin < kChunk ? static_cast<int>(e.count - begin) : kChunk;
  constexpr int kPack = kPackSize<T>;
  const int packed = e.packs ? size / kPack * kPack : 0;
  for (int k = static_cast<int>(threadIdx.x) * kPack; k < packed; k += kThreads * kPack) {
    update<kPack>(e, s, begin + k, scale);
  }
  for (int k = packed + static_cast<int>(threadIdx.x); k < size; k += kThreads) {
    update<1>(e, s, begin + k, scale);
  }
}

template <class T>
Entry<T> entry_of(const SgdStep& settings, const SgdTensors& one, std::int64_t first_chunk) {
  return {.first_chunk = first_chunk,
          .g = elements<T>(one.g),
          .w = elements<T>(one.w),
          .buffer = elements<T>(one.buffer),
          .working = elements<BFloat16>(one.working),
          .count = one.w.numel(),
          .lr = static_cast<T>(settings.lr * one.lr_factor),
          .decay = static_cast<T>(one.weight_decay),
          .packs = packable(one.g.data, one.w.data, one.buffer.data, one.working.data)};
}

}  // namespace

template <class T>
void sgd(Cuda backend, const SgdStep& settings, std::span<const SgdTensors> tensors) {
  std::vector<Entry<T>> entries;
  entries.reserve(tensors.size());
  std::int64_t chunks = 0;
  for (const SgdTensors& one : tensors) {
    entries.push_back(entry_of<T>(settings, one, chunks));
    chunks += ceil_div(one.w.numel(), kChunk);
  }
  if (chunks == 0)
    return;
  require<ShapeError>(chunks <= std::numeric_limits<int>::max(), "[sgd] {} chunks are too many",
                      chunks);
  const Tensor table = upload(entries, backend.stream);
  const Numbers<T> numbers{.momentum = static_cast<T>(settings.momentum),
                           .nesterov = settings.nesterov,
                           .grad_scale = settings.grad_scale.as<double>()};
  sgd_kernel<<<static_cast<unsigned int>(chunks), kThreads, 0, native(backend)>>>(
      entries_of<Entry<T>>(table), static_cast<int>(entries.size()), numbers);
  check_launch("sgd");
}

template void sgd<float>(Cuda, const SgdStep&, std::span<const SgdTensors>);
template void sgd<double>(Cuda, const SgdStep&, std::span<const SgdTensors>);

}  // namespace hew::kernels
