#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

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

/// The positions of a list by what id they have, on the device.
struct IdGroups {
  Tensor list;   // int32 [count, 2], IdEntry by id, equal ones by position
  Tensor table;  // int32 [rows + 1, 2], the IdRange of every id; the last one's is of all others

  const IdEntry* entries() const;
  const IdRange* ranges() const;
};

/// The last kernel allows the next one to come in early, see dependents.cuh. ids int32 [...]; what
/// is outside [0, rows) counts as the id `rows`, of which there is at least one. Throws ShapeError
/// for more than 2³⁰ ids or rows.
IdGroups group_ids(Cuda backend, const ConstView& ids, std::int64_t rows);

}  // namespace hew::kernels
