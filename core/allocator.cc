#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

namespace hew {
namespace {

constexpr std::int64_t kAlignment = 64;

// Eight classes per power of two: at most 12.5 % is lost to rounding.
std::int64_t size_class(std::int64_t bytes) {
  const auto wanted = static_cast<std::uint64_t>(std::max(bytes, kAlignment));
  const std::uint64_t step =
      std::max<std::uint64_t>(std::bit_floor(wanted) / 8, static_cast<std::uint64_t>(kAlignment));
  return static_cast<std::int64_t>((wanted + step - 1) / step * step);
}

}  // namespace

CpuAllocator::~CpuAllocator() {
  for (auto& [bytes, blocks] : free_) {
    for (void* block : blocks) std::free(block);
  }
}

void* CpuAllocator::allocate(std::int64_t bytes) {
  const std::int64_t size = size_class(bytes);
  const std::scoped_lock lock(mutex_);
  void* data = nullptr;
  std::vector<void*>& blocks = free_[size];
  if (!blocks.empty()) {
    data = blocks.back();
    blocks.pop_back();
  } else {
    data = std::aligned_alloc(kAlignment, static_cast<std::size_t>(size));
    if (data == nullptr)
      throw std::bad_alloc();
    blocks.reserve(blocks.capacity() + 1);  // release() must not throw
    stats_.reserved += size;
    ++stats_.system_allocations;
  }
  stats_.in_use += size;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return data;
}

void CpuAllocator::release(void* data, std::int64_t bytes) noexcept {
  const std::int64_t size = size_class(bytes);
  const std::scoped_lock lock(mutex_);
  free_[size].push_back(data);
  stats_.in_use -= size;
}

AllocatorStats CpuAllocator::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

}  // namespace hew
