#include "app/rank_device.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "dist/nccl_comm.h"

namespace hew {

Device device_of_rank(Device wanted, dist::Communicator& comm) {
  if (wanted.is_cpu())
    return wanted;
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const std::vector<std::byte> hosts = comm.all_gather(std::as_bytes(std::span(host)));
  for (int rank = 0; rank < comm.rank(); ++rank) {
    const auto begin = hosts.begin() + static_cast<std::ptrdiff_t>(host.size()) * rank;
    if (std::equal(host.begin(), host.end(), begin,
                   [](char a, std::byte b) { return static_cast<std::byte>(a) == b; }))
      ++wanted.index;
  }
  return wanted;
}

RankDevice::RankDevice(Device wanted, dist::Communicator& host)
    : host_(host), stream_(make_stream(device_of_rank(wanted, host))) {
  if (!stream_.device.is_cpu() && host.size() > 1)
    between_gpus_ = dist::make_nccl_communicator(host, stream_);
}

}  // namespace hew
