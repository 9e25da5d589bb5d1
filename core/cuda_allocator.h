#pragma once

// Only for files that are compiled with CUDA.

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/allocator.h"

namespace hew::cuda {

/// One range of addresses of a device that memory is mapped into as it grows. Free neighbours
/// merge, and a request takes the smallest free range that holds it, so that what a step leaves
/// behind serves the next one whatever its sizes.
class Arena {
 public:
  /// Reserves addresses only. Memory comes in pieces of at least `growth` bytes.
  Arena(int device, std::int64_t addresses, std::int64_t growth);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  /// Null if the device has no more memory.
  void* allocate(std::int64_t bytes);
  void release(void* data);
  bool owns(const void* data) const;
  std::int64_t mapped() const { return mapped_; }
  std::int64_t growths() const { return static_cast<std::int64_t>(pieces_.size()); }

 private:
  struct Range {
    std::int64_t bytes = 0;
    bool free = false;
  };
  using Ranges = std::map<std::int64_t, Range>;  // by offset, without gaps up to mapped_
  bool grow(std::int64_t bytes);
  void make_free(Ranges::iterator range);

  int device_;
  std::int64_t addresses_;
  std::int64_t growth_;
  std::int64_t mapped_ = 0;
  unsigned long long base_ = 0;  // CUdeviceptr
  Ranges ranges_;
  std::set<std::pair<std::int64_t, std::int64_t>> free_;             // (bytes, offset)
  std::vector<std::pair<unsigned long long, std::int64_t>> pieces_;  // mapped handles and sizes
};

/// Device memory in the order of one stream: what is released may be handed out again at once,
/// since whoever gets it works later on the same stream. Memory is never given back before the end.
class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(int device);

  void* allocate(std::int64_t bytes) override;
  void release(void* data, std::int64_t bytes) noexcept override;
  AllocatorStats stats() const override;

 private:
  mutable std::mutex mutex_;
  Arena small_;
  Arena large_;
  AllocatorStats stats_;
};

}  // namespace hew::cuda
