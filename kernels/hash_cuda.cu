#include "core/memory.h"
#include "kernels/hash.h"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

using Word = unsigned long long;  // what atomicAdd takes

constexpr int kThreads = 256;
constexpr int kWord = sizeof(Word);
constexpr int kInFlight = 4;  // 16-byte reads of a thread at a time

// A word from any address, filled up with zeros.
__device__ inline Word word_at(const std::uint8_t* bytes, int count) {
  Word word = 0;
  for (int i = 0; i < count; ++i) word |= static_cast<Word>(bytes[i]) << (8 * i);
  return word;
}

__device__ inline Word mix_pair(const ulonglong2& pair, std::int64_t i) {
  return mix_word(pair.x, 2 * i) + mix_word(pair.y, 2 * i + 1);
}

// *hash += this grid's sum; integers, so that the order of blocks is of no consequence. `packs`:
// words are read in pairs.
template <bool packs>
__global__ void __launch_bounds__(kThreads)
    hash_words_kernel(const std::uint8_t* bytes, std::int64_t count, Word* hash) {
  const std::int64_t words = count / kWord;
  const std::int64_t pairs = packs ? words / 2 : 0;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  Word sum = 0;
  if constexpr (packs) {
    const auto* from = reinterpret_cast<const ulonglong2*>(bytes);
    std::int64_t i = first;
    for (; i + (kInFlight - 1) * stride < pairs; i += kInFlight * stride) {
      ulonglong2 read[kInFlight];
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) read[k] = from[i + k * stride];
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) sum += mix_pair(read[k], i + k * stride);
    }
    for (; i < pairs; i += stride) sum += mix_pair(from[i], i);
  }
  for (std::int64_t i = 2 * pairs + first; i < words; i += stride) {
    sum += mix_word(word_at(bytes + i * kWord, kWord), i);
  }
  if (first == 0 && count % kWord != 0)
    sum += mix_word(word_at(bytes + words * kWord, static_cast<int>(count % kWord)), words);
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0)
    atomicAdd(hash, sum);
}

}  // namespace

void hash_words(Cuda backend, const ConstView& x, const View& hash) {
  zero_memory(hash.data, hash.device, sizeof(Word), backend.stream);
  const std::int64_t count = x.numel() * size_of(x.dtype);
  if (count == 0)
    return;
  const auto* bytes = static_cast<const std::uint8_t*>(x.data);
  Word* to = reinterpret_cast<Word*>(hash.as<std::int64_t>());
  const unsigned int blocks = grid_for(backend, ceil_div(count, 2 * kWord), kThreads);
  if (packable(bytes)) {
    hash_words_kernel<true><<<blocks, kThreads, 0, native(backend)>>>(bytes, count, to);
  } else {
    hash_words_kernel<false><<<blocks, kThreads, 0, native(backend)>>>(bytes, count, to);
  }
  check_launch("hash_words");
}

}  // namespace hew::kernels
