#pragma once

#include "core/device.h"
#include "dist/comm.h"

namespace hew {

/// The device this rank works on: the CPU as it is; of GPUs the one as far behind `wanted` as this
/// rank comes on its host, so that `cuda` gives every rank its own. Collective.
Device device_of_rank(Device wanted, dist::Communicator& comm);

}  // namespace hew
