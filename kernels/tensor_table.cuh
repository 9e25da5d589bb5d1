#pragma once

#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "core/tensor.h"

/// One launch over many tensors. Each is cut into chunks, one a block, numbered through all
/// tensors; an entry of the table is a struct with the `first_chunk` of its tensor.
namespace hew::kernels {

/// The entries on the device, in the order of the stream; the host does not wait.
template <class Entry>
Tensor upload(const std::vector<Entry>& entries, const Stream& stream) {
  static_assert(std::is_trivially_copyable_v<Entry>);
  const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(entries.data()),
                                            entries.size() * sizeof(Entry));
  return Tensor::from(bytes, {static_cast<std::int64_t>(bytes.size())}, stream);
}

template <class Entry>
const Entry* entries_of(const Tensor& table) {
  return reinterpret_cast<const Entry*>(table.data<std::uint8_t>());
}

/// The tensor that a chunk belongs to. Entries are in order of first_chunk; one of an empty tensor
/// has its successor's. All threads of the block call it.
template <class Entry>
__device__ inline int owner_of(const Entry* entries, int count, std::int64_t chunk) {
  int begun = 0;
  for (int base = 0; base < count; base += static_cast<int>(blockDim.x)) {
    const int i = base + static_cast<int>(threadIdx.x);
    begun += __syncthreads_count(i < count && entries[i].first_chunk <= chunk ? 1 : 0);
  }
  return begun - 1;
}

}  // namespace hew::kernels
