#include "dist/slices.h"

namespace hew::dist {
namespace {

bool even(std::int64_t numel, int size) {
  return slice_of(numel, 0, size).count * size == numel;
}

}  // namespace

void reduce_slices(Communicator& comm, const View& view, Reduction reduction,
                   const Stream& stream) {
  const std::int64_t n = view.numel();
  if (n > 0 && even(n, comm.size())) {
    const Slice own = slice_of(n, comm.rank(), comm.size());
    return comm.reduce_scatter(view, part_of(view, own.begin, own.count), reduction, stream);
  }
  for (int rank = 0; rank < comm.size(); ++rank) {
    const Slice slice = slice_of(n, rank, comm.size());
    if (slice.count > 0)
      comm.reduce(part_of(view, slice.begin, slice.count), rank, reduction, stream);
  }
}

void gather_slices(Communicator& comm, const View& view, const Stream& stream) {
  const std::int64_t n = view.numel();
  if (n > 0 && even(n, comm.size())) {
    const Slice own = slice_of(n, comm.rank(), comm.size());
    return comm.all_gather(part_of(view, own.begin, own.count), view, stream);
  }
  for (int rank = 0; rank < comm.size(); ++rank) {
    const Slice slice = slice_of(n, rank, comm.size());
    if (slice.count > 0)
      comm.broadcast(part_of(view, slice.begin, slice.count), rank, stream);
  }
}

}  // namespace hew::dist
