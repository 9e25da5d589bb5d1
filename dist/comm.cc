#include "dist/comm.h"

#include <cstdlib>

#include "core/error.h"
#include "core/memory.h"

namespace hew::dist {
namespace {

void require_root(const char* op, int root) {
  require<Error>(root == 0, "[{}] root {} of 1 rank", op, root);
}

void copy(const View& to, const ConstView& from, const Stream& stream) {
  if (to.data != from.data) {
    copy_memory(to.data, to.device, from.data, from.device, from.numel() * size_of(from.dtype),
                stream);
  }
}

}  // namespace

Group::Group(Communicator& comm) : comm_(comm) {
  comm_.group_begin();
}

Group::~Group() {
  if (!open_)
    return;
  try {
    comm_.group_end(/*given_up=*/true);
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): another error is on its way
  }
}

void Group::end() {
  open_ = false;
  comm_.group_end(/*given_up=*/false);
}

void LocalCommunicator::all_reduce(const View& view, Reduction reduction,
                                   const Stream& /*stream*/) {
  require_reducible("all_reduce", view, reduction);
}

void LocalCommunicator::reduce(const View& view, int root, Reduction reduction,
                               const Stream& /*stream*/) {
  require_reducible("reduce", view, reduction);
  require_root("reduce", root);
}

void LocalCommunicator::reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                                       const Stream& stream) {
  require_reducible("reduce_scatter", in, reduction);
  require_parts("reduce_scatter", in, out, 1);
  copy(out, in, stream);
}

void LocalCommunicator::broadcast(const View& /*view*/, int root, const Stream& /*stream*/) {
  require_root("broadcast", root);
}

void LocalCommunicator::all_gather(const ConstView& mine, const View& all, const Stream& stream) {
  require_parts("all_gather", all, mine, 1);
  copy(all, mine, stream);
}

std::vector<std::byte> LocalCommunicator::all_gather(std::span<const std::byte> mine) {
  return {mine.begin(), mine.end()};
}

void LocalCommunicator::abort(int code) noexcept {
  std::_Exit(code);
}

void require_reducible(std::string_view op, const ConstView& view, Reduction reduction) {
  const DType dtype = view.dtype;
  const bool whole_numbers = dtype == DType::kInt64 && reduction == Reduction::kSum;
  const bool halves = dtype == DType::kBFloat16 && view.device.is_cuda();
  require<DtypeError>(
      dtype == DType::kFloat32 || dtype == DType::kFloat64 || whole_numbers || halves,
      "[{}] cannot {} {} on {}", op, reduction == Reduction::kSum ? "add" : "average",
      name_of(dtype), to_string(view.device));
}

void require_parts(std::string_view op, const ConstView& whole, const ConstView& part, int parts) {
  require<DtypeError>(whole.dtype == part.dtype, "[{}] {} and {} in one call", op,
                      name_of(whole.dtype), name_of(part.dtype));
  require<ShapeError>(whole.numel() == parts * part.numel(),
                      "[{}] {} elements are not {} parts of {} elements", op, whole.numel(), parts,
                      part.numel());
}

View part_of(const View& view, std::int64_t begin, std::int64_t count) {
  return {.data = static_cast<char*>(view.data) + begin * size_of(view.dtype),
          .shape = {count},
          .dtype = view.dtype,
          .device = view.device};
}

ConstView part_of(const ConstView& view, std::int64_t begin, std::int64_t count) {
  return {.data = static_cast<const char*>(view.data) + begin * size_of(view.dtype),
          .shape = {count},
          .dtype = view.dtype,
          .device = view.device};
}

}  // namespace hew::dist
