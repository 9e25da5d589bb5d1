#pragma once

#include "dist/comm.h"
#include "train/stop_signal.h"

namespace hew {

/// What main makes before any command runs; both outlive every command.
struct AppContext {
  dist::Communicator& comm;
  const train::StopSignal* stop_signal = nullptr;  // of `hew train` only

  bool root() const { return comm.rank() == 0; }
};

}  // namespace hew
