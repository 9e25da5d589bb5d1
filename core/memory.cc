#include "core/memory.h"

#include <cstring>

#include "core/error.h"

namespace hew {
namespace {

void require_cpu(Device device, const char* op) {
  if (!device.is_cpu())
    throw BackendError(op, 0, "this build has no CUDA (use preset cuda)");
}

}  // namespace

void copy_memory(void* to, Device to_device, const void* from, Device from_device,
                 std::int64_t bytes, const Stream& /*stream*/) {
  require_cpu(to_device, "copy_memory");
  require_cpu(from_device, "copy_memory");
  if (bytes > 0)
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

void zero_memory(void* data, Device device, std::int64_t bytes, const Stream& /*stream*/) {
  require_cpu(device, "zero_memory");
  if (bytes > 0)
    std::memset(data, 0, static_cast<std::size_t>(bytes));
}

}  // namespace hew
