#pragma once

#include <cstdint>

#include "core/stream.h"

namespace hew {

/// Copies bytes between any two devices of this build, ordered on `stream`; a copy to the host has
/// arrived when the call returns. Throws BackendError for a device this build does not have.
void copy_memory(void* to, Device to_device, const void* from, Device from_device,
                 std::int64_t bytes, const Stream& stream);
void zero_memory(void* data, Device device, std::int64_t bytes, const Stream& stream);

}  // namespace hew
