#include "core/host_memory.h"

#include <unistd.h>

namespace hew {

std::int64_t host_memory_bytes() {
  return std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
}

}  // namespace hew
