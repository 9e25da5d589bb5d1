#pragma once

#include <cstdint>

#include "dist/comm.h"

namespace hew::dist {

/// Elements [begin, begin + count) of a flattened tensor.
struct Slice {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

/// Elements that stay together: 128, so that slices begin where wide memory accesses may; of
/// block-sparse values [nnzb, b, b] a block.
std::int64_t slice_unit(const Shape& shape);
/// Whether slices are whole entries of the leading dimension.
bool sliced_by_rows(const Shape& shape);
/// How a tensor is shared out: its elements in `size` slices of equal length, a multiple of
/// slice_unit; the last ones may be short or empty.
Slice slice_of(const Shape& shape, int rank, int size);

/// Each rank's slice of view ← the sum or mean over ranks of that slice; the other slices are
/// undefined afterwards. `beside`: while products go on (Communicator::reduce_scatter_beside).
void reduce_slices(Communicator& comm, const View& view, Reduction reduction, const Stream& stream,
                   bool beside = false);
/// view ← every rank's own slice of view, any dtype.
void gather_slices(Communicator& comm, const View& view, const Stream& stream);

}  // namespace hew::dist
