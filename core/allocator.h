#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace hew {

/// What an allocator has handed out, in bytes; `system_allocations` counts calls that reached the
/// operating system, so that a warm training step can be shown to make none.
struct AllocatorStats {
  std::int64_t in_use = 0;
  std::int64_t peak = 0;
  std::int64_t reserved = 0;
  std::int64_t system_allocations = 0;
};

/// Source of device memory. Thread-safe.
class Allocator {
 public:
  Allocator() = default;
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  virtual ~Allocator() = default;

  /// Memory for at least `bytes`, aligned to 64 bytes, contents undefined.
  virtual void* allocate(std::int64_t bytes) = 0;
  /// Takes back what allocate(bytes) returned.
  virtual void release(void* data, std::int64_t bytes) noexcept = 0;
  virtual AllocatorStats stats() const = 0;
};

/// Host memory with a free list per size class, so that a step that repeats allocates nothing.
class CpuAllocator final : public Allocator {
 public:
  CpuAllocator() = default;
  CpuAllocator(const CpuAllocator&) = delete;
  CpuAllocator& operator=(const CpuAllocator&) = delete;
  ~CpuAllocator() override;

  void* allocate(std::int64_t bytes) override;
  void release(void* data, std::int64_t bytes) noexcept override;
  AllocatorStats stats() const override;

 private:
  mutable std::mutex mutex_;
  std::map<std::int64_t, std::vector<void*>> free_;
  AllocatorStats stats_;
};

}  // namespace hew
