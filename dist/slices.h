#pragma once

#include <algorithm>
#include <cstdint>

#include "dist/comm.h"

namespace hew::dist {

/// Elements [begin, begin + count) of a flattened tensor.
struct Slice {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

/// How a tensor is shared out: its elements in `size` slices of equal length, a multiple of
/// kSliceUnit so that all begin where wide memory accesses may; the last ones may be short or
/// empty.
inline constexpr std::int64_t kSliceUnit = 128;
constexpr Slice slice_of(std::int64_t numel, int rank, int size) {
  const std::int64_t units = (numel + kSliceUnit - 1) / kSliceUnit;
  const std::int64_t length = (units + size - 1) / size * kSliceUnit;
  const std::int64_t begin = std::min(numel, rank * length);
  return {.begin = begin, .count = std::min(length, numel - begin)};
}

/// Each rank's slice of view ← the sum or mean over ranks of that slice; the other slices are
/// undefined afterwards.
void reduce_slices(Communicator& comm, const View& view, Reduction reduction, const Stream& stream);
/// view ← every rank's own slice of view, any dtype.
void gather_slices(Communicator& comm, const View& view, const Stream& stream);

}  // namespace hew::dist
