#pragma once

#include <memory>

#include "core/device.h"
#include "core/stream.h"
#include "dist/comm.h"
#include "dist/nccl_comm.h"

namespace hew {

/// The device this rank works on: the CPU as it is; of GPUs the one as far behind `wanted` as this
/// rank comes on its host, so that `cuda` gives every rank its own. Collective.
Device device_of_rank(Device wanted, dist::Communicator& comm);

/// What a rank computes on, and how it reaches the others from there.
class RankDevice {
 public:
  /// On device_of_rank(wanted, host); `host` must outlive it. Collective. Throws BackendError where
  /// there is no such GPU.
  RankDevice(Device wanted, dist::Communicator& host,
             dist::PeerCopying copying = dist::PeerCopying::kWherePossible);

  const Stream& stream() const { return stream_; }
  /// Takes tensors on the stream's device.
  dist::Communicator& comm() const { return between_gpus_ ? *between_gpus_ : host_; }

 private:
  dist::Communicator& host_;
  Stream stream_;
  std::unique_ptr<dist::Communicator> between_gpus_;  // null on the CPU
};

}  // namespace hew
