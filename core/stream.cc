#include "core/stream.h"

namespace hew {

Stream make_cpu_stream() {
  return {.device = {}, .allocator = std::make_shared<CpuAllocator>()};
}

}  // namespace hew
