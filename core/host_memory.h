#pragma once

#include <cstdint>

namespace hew {

/// Of this machine, swap included, as its operating system counts it.
std::int64_t host_memory_bytes();

}  // namespace hew
