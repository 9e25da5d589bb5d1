#include "app/rank_device.h"

#include "dist/host_rank.h"

namespace hew {

Device device_of_rank(Device wanted, dist::Communicator& comm) {
  if (wanted.is_cuda())
    wanted.index += dist::rank_on_host(comm);
  return wanted;
}

RankDevice::RankDevice(Device wanted, dist::Communicator& host, dist::PeerCopying copying)
    : host_(host), stream_(make_stream(device_of_rank(wanted, host))) {
  if (stream_.device.is_cpu())
    return;
  if (host.size() > 1) {
    between_gpus_ = dist::make_nccl_communicator(host, stream_, copying);
  } else {
    between_gpus_ = std::make_unique<dist::LocalCommunicator>();
  }
}

}  // namespace hew
