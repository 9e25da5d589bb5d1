#include "dist/slices.h"

#include <algorithm>

namespace hew::dist {
namespace {

bool even(const Shape& shape, int size) {
  return slice_of(shape, 0, size).count * size == shape.numel();
}

}  // namespace

bool sliced_by_rows(const Shape& shape) {
  return shape.rank() == 3;
}

std::int64_t slice_unit(const Shape& shape) {
  constexpr std::int64_t kElements = 128;
  return sliced_by_rows(shape) ? shape[1] * shape[2] : kElements;
}

Slice slice_of(const Shape& shape, int rank, int size) {
  const std::int64_t numel = shape.numel();
  const std::int64_t unit = std::max(slice_unit(shape), std::int64_t{1});
  const std::int64_t units = (numel + unit - 1) / unit;
  const std::int64_t length = (units + size - 1) / size * unit;
  const std::int64_t begin = std::min(numel, rank * length);
  return {.begin = begin, .count = std::min(length, numel - begin)};
}

void reduce_slices(Communicator& comm, const View& view, Reduction reduction, const Stream& stream,
                   bool beside) {
  const std::int64_t n = view.numel();
  if (n > 0 && even(view.shape, comm.size())) {
    const Slice own = slice_of(view.shape, comm.rank(), comm.size());
    const View part = part_of(view, own.begin, own.count);
    return beside ? comm.reduce_scatter_beside(view, part, reduction, stream)
                  : comm.reduce_scatter(view, part, reduction, stream);
  }
  for (int rank = 0; rank < comm.size(); ++rank) {
    const Slice slice = slice_of(view.shape, rank, comm.size());
    if (slice.count > 0)
      comm.reduce(part_of(view, slice.begin, slice.count), rank, reduction, stream);
  }
}

void gather_slices(Communicator& comm, const View& view, const Stream& stream) {
  const std::int64_t n = view.numel();
  if (n > 0 && even(view.shape, comm.size())) {
    const Slice own = slice_of(view.shape, comm.rank(), comm.size());
    return comm.all_gather(part_of(view, own.begin, own.count), view, stream);
  }
  for (int rank = 0; rank < comm.size(); ++rank) {
    const Slice slice = slice_of(view.shape, rank, comm.size());
    if (slice.count > 0)
      comm.broadcast(part_of(view, slice.begin, slice.count), rank, stream);
  }
}

}  // namespace hew::dist
