#include "dist/host_rank.h"

#include <unistd.h>

#include <array>
#include <cstring>

#include "core/error.h"
#include "dist/hash.h"

namespace hew::dist {

int rank_on_host(Communicator& comm) {
  std::array<char, 256> name{};
  const int code = gethostname(name.data(), name.size() - 1);
  if (code != 0)
    throw BackendError("gethostname", code, "this machine does not say its name");
  const std::uint64_t mine = xxh64(std::as_bytes(std::span(name)));
  const std::vector<std::byte> all = comm.all_gather(std::as_bytes(std::span(&mine, 1)));
  int before = 0;
  for (int rank = 0; rank < comm.rank(); ++rank) {
    const std::byte* theirs = all.data() + static_cast<std::size_t>(rank) * sizeof(mine);
    before += std::memcmp(theirs, &mine, sizeof(mine)) == 0 ? 1 : 0;
  }
  return before;
}

}  // namespace hew::dist
