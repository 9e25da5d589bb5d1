#include "dist/consistency.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <map>

#include "core/error.h"
#include "dist/hash.h"

namespace hew::dist {
namespace {

using Hashes = std::vector<std::uint64_t>;

std::uint64_t hash_of_text(const std::string& text) {
  return xxh64(std::as_bytes(std::span(text)));
}

// hashes[rank·n + i] of n items on each rank.
Hashes gather(Communicator& comm, const Hashes& mine) {
  const std::vector<std::byte> bytes = comm.all_gather(std::as_bytes(std::span(mine)));
  Hashes all(mine.size() * static_cast<std::size_t>(comm.size()));
  std::copy(bytes.begin(), bytes.end(), std::as_writable_bytes(std::span(all)).begin());
  return all;
}

// Ranks whose hash is not the commonest; in a tie the lowest rank's hash counts as right.
std::vector<int> dissenters(const Hashes& by_rank) {
  std::uint64_t right = by_rank.front();
  for (const std::uint64_t hash : by_rank) {
    if (std::count(by_rank.begin(), by_rank.end(), hash) >
        std::count(by_rank.begin(), by_rank.end(), right)) {
      right = hash;
    }
  }
  std::vector<int> ranks;
  for (std::size_t r = 0; r < by_rank.size(); ++r) {
    if (by_rank[r] != right)
      ranks.push_back(static_cast<int>(r));
  }
  return ranks;
}

// Throws on all ranks unless item i has one hash on all of them; name_of(i) says what it is.
template <class NameOf>
void require_equal(Communicator& comm, const Hashes& mine, const NameOf& name_of) {
  const Hashes all = gather(comm, mine);
  const std::size_t n = mine.size();
  for (std::size_t i = 0; i < n; ++i) {
    Hashes by_rank;
    for (std::size_t at = i; at < all.size(); at += n) by_rank.push_back(all[at]);
    const std::vector<int> ranks = dissenters(by_rank);
    require<Error>(ranks.empty(), "[consistency] {} on rank {} differs from the other ranks",
                   name_of(i), fmt::join(ranks, ", "));
  }
}

void require_equal_names(Communicator& comm, const Hashes& names) {
  require_equal(comm, {xxh64(std::as_bytes(std::span(names)))},
                [](std::size_t) { return "the list of tensors"; });
}

}  // namespace

void check_equal(Communicator& comm, std::span<const std::pair<std::string, Tensor>> tensors) {
  Hashes names;
  std::vector<Tensor> values;
  for (const auto& [name, tensor] : tensors) {
    names.push_back(hash_of_text(name));
    values.push_back(tensor);
  }
  require_equal_names(comm, names);
  require_equal(comm, hashes_of(values), [&tensors](std::size_t i) { return tensors[i].first; });
}

void broadcast_parameters(Communicator& comm, std::span<ag::Parameter* const> parameters) {
  Hashes names;
  Hashes layouts;
  for (const ag::Parameter* p : parameters) {
    names.push_back(hash_of_text(p->name));
    layouts.push_back(hash_of_text(
        fmt::format("{} {}", name_of(p->value().dtype()), to_string(p->value().shape()))));
  }
  require_equal_names(comm, names);
  require_equal(comm, layouts,
                [&](std::size_t i) { return fmt::format("the shape of {}", parameters[i]->name); });
  for (ag::Parameter* p : parameters) {
    comm.broadcast(p->var.mutable_value(), 0, p->value().stream());
  }
}

}  // namespace hew::dist
