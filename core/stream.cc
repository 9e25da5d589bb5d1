#include "core/stream.h"

#include "core/cuda_device.h"

namespace hew {

Stream make_cpu_stream() {
  return {.device = {},
          .allocator = std::make_shared<CpuAllocator>(),
          .state = std::make_shared<StreamState>()};
}

Stream make_stream(Device device) {
  return device.is_cpu() ? make_cpu_stream() : cuda::make_stream(device.index);
}

Stream side_stream(const Stream& stream) {
  return stream.device.is_cpu() ? stream : cuda::side_stream(stream);
}

int cuda_device_count() {
  return cuda::device_count();
}

void synchronize(const Stream& stream) {
  if (!stream.device.is_cpu())
    cuda::synchronize(stream);
}

}  // namespace hew
