#include <limits>

#include "kernels/average.h"
#include "kernels/launch.cuh"
#include "kernels/tensor_table.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 8192;  // elements of a block

template <class T>
struct Entry {
  std::int64_t first_chunk;
  const T* value;
  T* average;
  std::int64_t count;
  bool packs;  // 16-byte accesses are possible
};

// Elements [at, at + n) of a tensor.
template <int n, class T>
__device__ inline void move(const Entry<T>& e, std::int64_t at, T old, T fresh) {
  T value[n];
  T average[n];
  load<T, n>(e.value + at, value);
  load<T, n>(e.average + at, average);
#pragma unroll
  for (int k = 0; k < n; ++k) average[k] = old * average[k] + fresh * value[k];
  store<T, n>(e.average + at, average);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    average_kernel(const Entry<T>* entries, int count, T old, T fresh) {
  const Entry<T> e = entries[owner_of(entries, count, blockIdx.x)];
  const std::int64_t begin = (blockIdx.x - e.first_chunk) * kChunk;
  const int size = e.count - begin < kChunk ? static_cast<int>(e.count - begin) : kChunk;
  constexpr int kPack = kPackSize<T>;
  const int packed = e.packs ? size / kPack * kPack : 0;
#pragma unroll 4
  for (int k = static_cast<int>(threadIdx.x) * kPack; k < packed; k += kThreads * kPack) {
    move<kPack>(e, begin + k, old, fresh);
  }
  for (int k = packed + static_cast<int>(threadIdx.x); k < size; k += kThreads) {
    move<1>(e, begin + k, old, fresh);
  }
}

}  // namespace

template <class T>
void move_averages(Cuda backend, std::span<const AverageTensors> tensors, double decay) {
  std::vector<Entry<T>> entries;
  entries.reserve(tensors.size());
  std::int64_t chunks = 0;
  for (const AverageTensors& one : tensors) {
    entries.push_back({.first_chunk = chunks,
                       .value = elements<T>(one.value),
                       .average = elements<T>(one.average),
                       .count = one.value.numel(),
                       .packs = packable(one.value.data, one.average.data)});
    chunks += ceil_div(one.value.numel(), kChunk);
  }
  if (chunks == 0)
    return;
  require<ShapeError>(chunks <= std::numeric_limits<int>::max(),
                      "[move_averages] {} chunks are too many", chunks);
  const Tensor table = upload(entries, backend.stream);
  average_kernel<T><<<static_cast<unsigned int>(chunks), kThreads, 0, native(backend)>>>(
      entries_of<Entry<T>>(table), static_cast<int>(entries.size()), static_cast<T>(decay),
      static_cast<T>(1 - decay));
  check_launch("move_averages");
}

template void move_averages<float>(Cuda, std::span<const AverageTensors>, double);
template void move_averages<double>(Cuda, std::span<const AverageTensors>, double);

}  // namespace hew::kernels
