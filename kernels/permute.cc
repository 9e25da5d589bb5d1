#include "kernels/permute.h"

#include <array>

namespace hew::kernels {
namespace {

void require_columns(std::string_view what, const ConstView& matrix, std::int64_t begin,
                     std::int64_t count) {
  require<ShapeError>(matrix.shape.rank() == 2, "[copy_columns] {} has shape {}, expected [M, C]",
                      what, to_string(matrix.shape));
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= matrix.shape[1],
                      "[copy_columns] columns {} to {} of {} with shape {}", begin, begin + count,
                      what, to_string(matrix.shape));
}

}  // namespace

Shape permuted(const Shape& shape, std::span<const int> axes) {
  const int rank = shape.rank();
  require<ShapeError>(static_cast<int>(axes.size()) == rank, "[permute] {} axes for shape {}",
                      axes.size(), to_string(shape));
  std::array<std::int64_t, Shape::kMaxRank> extents{};
  std::array<bool, Shape::kMaxRank> used{};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const int axis = axes[i];
    require<ShapeError>(axis >= 0 && axis < rank && !used[static_cast<std::size_t>(axis)],
                        "[permute] axis {} at place {} is no permutation of {} dimensions", axis, i,
                        rank);
    used[static_cast<std::size_t>(axis)] = true;
    extents[i] = shape[axis];
  }
  return Shape(std::span<const std::int64_t>(extents.data(), axes.size()));
}

void permute(const ConstView& x, std::span<const int> axes, const View& y, const Stream& stream) {
  require_fits("permute", "y", y, permuted(x.shape, axes), x);
  dispatch("permute", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { permute<T>(backend, x, axes, y); });
}

void copy_columns(const CopyColumns& args, const Stream& stream) {
  require_columns("from", args.from, args.from_begin, args.count);
  require_columns("to", args.to, args.to_begin, args.count);
  require<ShapeError>(args.from.shape[0] == args.to.shape[0], "[copy_columns] {} rows into {}",
                      args.from.shape[0], args.to.shape[0]);
  require_like("copy_columns", "to", args.to, args.from);
  dispatch("copy_columns", args.from.device, stream, args.from.dtype,
           [&]<class T>(auto backend) { copy_columns<T>(backend, args); });
}

}  // namespace hew::kernels
