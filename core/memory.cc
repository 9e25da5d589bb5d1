#include "core/memory.h"

#include <cstring>

#include "core/cuda_device.h"

namespace hew {

void copy_memory(void* to, Device to_device, const void* from, Device from_device,
                 std::int64_t bytes, const Stream& stream) {
  if (bytes <= 0)
    return;
  if (to_device.is_cpu() && from_device.is_cpu()) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  } else {
    cuda::copy(to, to_device, from, from_device, bytes, stream);
  }
}

void zero_memory(void* data, Device device, std::int64_t bytes, const Stream& stream) {
  if (bytes <= 0)
    return;
  if (device.is_cpu()) {
    std::memset(data, 0, static_cast<std::size_t>(bytes));
  } else {
    cuda::zero(data, bytes, stream);
  }
}

}  // namespace hew
