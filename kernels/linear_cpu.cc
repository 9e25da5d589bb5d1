#include <Eigen/Core>
#include <algorithm>

#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew::kernels {
namespace {

// A product is cut into tiles by its size alone, one tile a thread at a time: so no sum depends on
// the number of threads. The largest tiles are where Eigen's packing has been paid for; a smaller
// product makes about kTiles of them along its rows.
constexpr std::int64_t kMaxTileRows = 512;
constexpr std::int64_t kMaxTileCols = 1536;
constexpr std::int64_t kTiles = 8;
constexpr std::int64_t kRowStep = 16;
// Below this many multiply-adds a team of threads costs more than it brings.
constexpr std::int64_t kParallelWork = 1 << 17;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using ConstMap = Eigen::Map<const Matrix<T>>;
template <class T>
using Map = Eigen::Map<Matrix<T>>;

template <class T>
ConstMap<T> map(const ConstView& view) {
  return {view.as<T>(), view.shape[0], view.shape[1]};
}

template <class T>
Map<T> map(const View& view) {
  return {view.as<T>(), view.shape[0], view.shape[1]};
}

struct Tile {
  std::int64_t row = 0;
  std::int64_t rows = 0;
  std::int64_t col = 0;
  std::int64_t cols = 0;
};

// body(tile) over a rows × cols result whose elements are sums of `depth` products.
template <class Body>
void for_each_tile(std::int64_t rows, std::int64_t cols, std::int64_t depth, const Body& body) {
  const std::int64_t share = (rows + kTiles - 1) / kTiles;
  const std::int64_t tile_rows =
      std::clamp((share + kRowStep - 1) / kRowStep * kRowStep, kRowStep, kMaxTileRows);
#pragma omp parallel for collapse(2) schedule(dynamic, 1) if (rows * cols * depth > kParallelWork)
  for (std::int64_t row = 0; row < rows; row += tile_rows) {
    for (std::int64_t col = 0; col < cols; col += kMaxTileCols) {
      body(Tile{.row = row,
                .rows = std::min(tile_rows, rows - row),
                .col = col,
                .cols = std::min(kMaxTileCols, cols - col)});
    }
  }
}

}  // namespace

template <class T>
void linear_forward(Cpu /*backend*/, const LinearForwardArgs& args) {
  const ConstMap<T> x = map<T>(args.x);
  const ConstMap<T> w = map<T>(args.w);
  const bool activated = args.activation != Activation::kNone;
  Map<T> y = map<T>(args.y);
  Map<T> pre = activated && args.pre ? map<T>(args.pre) : map<T>(args.y);
  const T* bias = args.bias.as<T>();
  for_each_tile(y.rows(), y.cols(), x.cols(), [&](const Tile& t) {
    auto out = pre.block(t.row, t.col, t.rows, t.cols);
    out.noalias() = x.middleRows(t.row, t.rows) * w.middleRows(t.col, t.cols).transpose();
    if (bias == nullptr && !activated)
      return;
    for (std::int64_t i = 0; i < t.rows; ++i) {
      T* row = &out(i, 0);
      for (std::int64_t j = 0; bias != nullptr && j < t.cols; ++j) row[j] += bias[t.col + j];
      if (activated)
        apply_activation(args.activation, row, &y(t.row + i, t.col), t.cols);
    }
  });
}

template <class T>
void linear_input_gradient(Cpu backend, const LinearInputGradientArgs& args) {
  const ConstMap<T> from = map<T>(args.dy);
  const ConstMap<T> weight = map<T>(args.w);
  Map<T> to = map<T>(args.dx);
  for_each_tile(to.rows(), to.cols(), from.cols(), [&](const Tile& t) {
    auto out = to.block(t.row, t.col, t.rows, t.cols);
    if (!args.accumulate)
      out.setZero();
    out.noalias() += from.middleRows(t.row, t.rows) * weight.middleCols(t.col, t.cols);
  });
  if (args.activation == Activation::kNone)
    return;
  activation_backward<T>(backend, {.activation = args.activation,
                                   .x = args.pre,
                                   .dy = args.dx,
                                   .dx = args.dx,
                                   .dbias = args.dbias,
                                   .y = args.activated});
}

template <class T>
void linear_weight_gradient(Cpu backend, const LinearWeightGradientArgs& args) {
  const ConstMap<T> from = map<T>(args.dy);
  const ConstMap<T> in = map<T>(args.x);
  Map<T> to = map<T>(args.dw);
  for_each_tile(to.rows(), to.cols(), from.rows(), [&](const Tile& t) {
    auto out = to.block(t.row, t.col, t.rows, t.cols);
    if (!args.accumulate)
      out.setZero();
    out.noalias() += from.middleCols(t.row, t.rows).transpose() * in.middleCols(t.col, t.cols);
  });
  if (!args.dbias)
    return;
  if (!args.accumulate)
    return sum_leading<T>(backend, args.dy, args.dbias);
  Tensor sums = Tensor::empty(args.dbias.shape, args.dbias.dtype, backend.stream);
  sum_leading<T>(backend, args.dy, sums);
  add<T>(backend, args.dbias, sums, args.dbias);
}

#define HEW_INSTANTIATE(T)                                                     \
  template void linear_forward<T>(Cpu, const LinearForwardArgs&);              \
  template void linear_input_gradient<T>(Cpu, const LinearInputGradientArgs&); \
  template void linear_weight_gradient<T>(Cpu, const LinearWeightGradientArgs&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
