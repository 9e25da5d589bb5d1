#include "core/host_memory.h"

#include <sys/sysinfo.h>

namespace hew {

std::int64_t host_memory_bytes() {
  struct sysinfo info {};
  sysinfo(&info);  // cannot fail with memory that is ours
  return static_cast<std::int64_t>(info.totalram + info.totalswap) * info.mem_unit;
}

}  // namespace hew
