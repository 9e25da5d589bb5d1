#include "dist/host_rank.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "dist/hash.h"

namespace hew::dist {
namespace {

// Of each rank, a number that stands for its machine.
std::vector<std::uint64_t> hosts_of_ranks(Communicator& comm) {
  std::array<char, 256> name{};
  const int code = gethostname(name.data(), name.size() - 1);
  if (code != 0)
    throw BackendError("gethostname", code, "this machine does not say its name");
  const std::uint64_t mine = xxh64(std::as_bytes(std::span(name)));
  return gather_of_ranks(comm, mine);
}

}  // namespace

int rank_on_host(Communicator& comm) {
  const std::vector<std::uint64_t> hosts = hosts_of_ranks(comm);
  const auto mine = hosts.begin() + comm.rank();
  return static_cast<int>(std::count(hosts.begin(), mine, *mine));
}

int ranks_on_host(Communicator& comm) {
  const std::vector<std::uint64_t> hosts = hosts_of_ranks(comm);
  const std::uint64_t mine = hosts[static_cast<std::size_t>(comm.rank())];
  return static_cast<int>(std::count(hosts.begin(), hosts.end(), mine));
}

}  // namespace hew::dist
