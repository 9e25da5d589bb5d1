#pragma once

#include <memory>

#include "core/allocator.h"
#include "core/device.h"

namespace hew {

/// Where work runs and where its memory comes from: a device, its allocator and, on a GPU, the
/// native queue. A cheap value; every tensor carries the one it was made on, and every kernel
/// takes one as its last argument. On the CPU work is done when the call returns.
struct Stream {
  Device device;
  std::shared_ptr<Allocator> allocator;
  void* native = nullptr;
};

/// A stream on the host with an allocator of its own.
Stream make_cpu_stream();

}  // namespace hew
