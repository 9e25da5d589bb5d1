#pragma once

#include "kernels/embedding.h"

namespace hew::kernels {

/// A position of a list of ids, and the id there.
struct alignas(8) IdEntry {
  std::uint32_t id;
  std::int32_t position;
};

/// Entries [begin, end); both 0 for an id that no position has.
struct alignas(8) IdRange {
  std::int32_t begin;
  std::int32_t end;
};

/// What is outside [0, rows) counts as the id `rows`.
inline const IdEntry* entries_of(const IdGroups& groups) {
  return static_cast<const IdEntry*>(groups.entries.view().data);
}
inline const IdRange* ranges_of(const IdGroups& groups) {
  return static_cast<const IdRange*>(groups.ranges.view().data);
}

}  // namespace hew::kernels
