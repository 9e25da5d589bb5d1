#include "core/cuda_allocator.h"

#include <algorithm>
#include <iterator>
#include <new>

#include "core/cuda_driver.h"

namespace hew::cuda {
namespace {

constexpr std::int64_t kAlignment = 512;
constexpr std::int64_t kMiB = std::int64_t{1} << 20U;
// Small tensors have an arena of their own, so that they do not cut the large one to pieces.
constexpr std::int64_t kSmall = kMiB;

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

CUmemAllocationProp properties(int device) {
  CUmemAllocationProp out{};
  out.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  out.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  out.location.id = device;
  return out;
}

std::int64_t granularity(int device) {
  const CUmemAllocationProp wanted = properties(device);
  std::size_t bytes = 0;
  check_driver(
      driver_function<decltype(cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity")(
          &bytes, &wanted, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
      "cuMemGetAllocationGranularity");
  return static_cast<std::int64_t>(bytes);
}

std::int64_t total_memory(int device) {
  const CurrentDevice current(device);
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(total);
}

}  // namespace

Arena::Arena(int device, std::int64_t addresses, std::int64_t growth)
    : device_(device),
      addresses_(round_up(addresses, granularity(device))),
      growth_(round_up(growth, granularity(device))) {
  CUdeviceptr base = 0;
  check_driver(driver_function<decltype(cuMemAddressReserve)>("cuMemAddressReserve")(
                   &base, static_cast<std::size_t>(addresses_), 0, 0, 0),
               "cuMemAddressReserve");
  base_ = base;
}

Arena::~Arena() {
  // Nothing is left to do if the driver refuses: the process ends, or has lost the device.
  try {
    std::int64_t offset = 0;
    for (const auto& [handle, bytes] : pieces_) {
      driver_function<decltype(cuMemUnmap)>("cuMemUnmap")(base_ + static_cast<CUdeviceptr>(offset),
                                                          static_cast<std::size_t>(bytes));
      driver_function<decltype(cuMemRelease)>("cuMemRelease")(handle);
      offset += bytes;
    }
    driver_function<decltype(cuMemAddressFree)>("cuMemAddressFree")(
        base_, static_cast<std::size_t>(addresses_));
  } catch (const Error&) {
    return;
  }
}

bool Arena::grow(std::int64_t bytes) {
  std::int64_t wanted = bytes;
  if (!ranges_.empty()) {
    const auto last = std::prev(ranges_.end());
    if (last->second.free)
      wanted -= last->second.bytes;
  }
  const std::int64_t piece = round_up(wanted, growth_);
  if (mapped_ + piece > addresses_)
    return false;
  const CUmemAllocationProp kind = properties(device_);
  CUmemGenericAllocationHandle handle = 0;
  const auto size = static_cast<std::size_t>(piece);
  const CUresult made =
      driver_function<decltype(cuMemCreate)>("cuMemCreate")(&handle, size, &kind, 0);
  if (made == CUDA_ERROR_OUT_OF_MEMORY)
    return false;
  check_driver(made, "cuMemCreate");
  const CUdeviceptr at = base_ + static_cast<CUdeviceptr>(mapped_);
  check_driver(driver_function<decltype(cuMemMap)>("cuMemMap")(at, size, 0, handle, 0), "cuMemMap");
  CUmemAccessDesc access{};
  access.location = kind.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  check_driver(driver_function<decltype(cuMemSetAccess)>("cuMemSetAccess")(at, size, &access, 1),
               "cuMemSetAccess");
  pieces_.emplace_back(handle, piece);
  const auto added = ranges_.emplace(mapped_, Range{.bytes = piece}).first;
  mapped_ += piece;
  make_free(added);
  return true;
}

void Arena::make_free(Ranges::iterator range) {
  const auto next = std::next(range);
  if (next != ranges_.end() && next->second.free) {
    free_.erase({next->second.bytes, next->first});
    range->second.bytes += next->second.bytes;
    ranges_.erase(next);
  }
  if (range != ranges_.begin() && std::prev(range)->second.free) {
    const auto before = std::prev(range);
    free_.erase({before->second.bytes, before->first});
    before->second.bytes += range->second.bytes;
    ranges_.erase(range);
    range = before;
  }
  range->second.free = true;
  free_.emplace(range->second.bytes, range->first);
}

void* Arena::allocate(std::int64_t bytes) {
  const std::int64_t size = round_up(std::max<std::int64_t>(bytes, 1), kAlignment);
  auto found = free_.lower_bound({size, 0});
  if (found == free_.end()) {
    if (!grow(size))
      return nullptr;
    found = free_.lower_bound({size, 0});
  }
  const auto range = ranges_.find(found->second);
  free_.erase(found);
  const std::int64_t rest = range->second.bytes - size;
  range->second = {.bytes = size, .free = false};
  if (rest > 0) {
    const auto tail = ranges_.emplace(range->first + size, Range{.bytes = rest, .free = true});
    free_.emplace(rest, tail.first->first);
  }
  return reinterpret_cast<void*>(base_ +  // NOLINT(performance-no-int-to-ptr)
                                 static_cast<CUdeviceptr>(range->first));
}

bool Arena::owns(const void* data) const {
  const auto address = reinterpret_cast<CUdeviceptr>(data);
  return address >= base_ && address < base_ + static_cast<CUdeviceptr>(addresses_);
}

void Arena::release(void* data) {
  const auto offset = static_cast<std::int64_t>(reinterpret_cast<CUdeviceptr>(data) - base_);
  make_free(ranges_.find(offset));
}

CudaAllocator::CudaAllocator(int device)
    : small_(device, total_memory(device) / 8, 2 * kMiB),
      large_(device, total_memory(device), 32 * kMiB) {}

void* CudaAllocator::allocate(std::int64_t bytes) {
  const std::scoped_lock lock(mutex_);
  void* data = bytes <= kSmall ? small_.allocate(bytes) : large_.allocate(bytes);
  if (data == nullptr)
    throw std::bad_alloc();
  stats_.in_use += round_up(std::max<std::int64_t>(bytes, 1), kAlignment);
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  stats_.reserved = small_.mapped() + large_.mapped();
  stats_.system_allocations = small_.growths() + large_.growths();
  return data;
}

void CudaAllocator::release(void* data, std::int64_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  (small_.owns(data) ? small_ : large_).release(data);
  stats_.in_use -= round_up(std::max<std::int64_t>(bytes, 1), kAlignment);
}

AllocatorStats CudaAllocator::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

}  // namespace hew::cuda
