#include "kernels/soft_top.h"

namespace hew::kernels {
namespace {

void require_wide(std::string_view op, std::string_view what, const ConstView& view,
                  const Shape& shape, const ConstView& like) {
  require_shape(op, what, view, shape);
  require_dtype(op, what, view, DType::kFloat64);
  require_device(op, what, view, like);
}

void require_fitting(std::string_view op, const SoftTop& matrix, const ConstView& like) {
  require<ShapeError>(matrix.values.shape.rank() == 1, "[{}] values have shape {}, expected [n]",
                      op, to_string(matrix.values.shape));
  const std::int64_t n = matrix.values.numel();
  require_wide(op, "values", matrix.values, {n}, like);
  require_wide(op, "mask", matrix.mask, {n}, like);
  require_wide(op, "slope", matrix.slope, {1}, like);
  require<ShapeError>(matrix.keep >= 1 && matrix.keep <= n, "[{}] {} blocks wanted of {}", op,
                      matrix.keep, n);
  require<ShapeError>(matrix.sharpness > 0, "[{}] the sharpness is {}, expected above 0", op,
                      matrix.sharpness);
}

}  // namespace

void soft_top(std::span<const SoftTop> matrices, const Stream& stream) {
  constexpr std::string_view kOp = "soft_top";
  if (matrices.empty())
    return;
  const ConstView& first = matrices.front().values;
  for (const SoftTop& matrix : matrices) require_fitting(kOp, matrix, first);
  dispatch(kOp, first.device, stream, first.dtype,
           [&]<class T>(auto backend) { soft_top(backend, matrices); });
}

void soft_top_gradient(const SoftTopGradient& args, const Stream& stream) {
  constexpr std::string_view kOp = "soft_top_gradient";
  require<ShapeError>(args.block > 0, "[{}] block is {}", kOp, args.block);
  const Shape grid{(args.rows + args.block - 1) / args.block,
                   (args.cols + args.block - 1) / args.block};
  require_wide(kOp, "values", args.values, grid, args.values);
  require_wide(kOp, "mask", args.mask, grid, args.values);
  require_wide(kOp, "slope", args.slope, {1}, args.values);
  require_wide(kOp, "dmask", args.dmask, grid, args.values);
  require_wide(kOp, "factor", args.factor, grid, args.values);
  dispatch(kOp, args.values.device, stream, args.values.dtype,
           [&]<class T>(auto backend) { soft_top_gradient(backend, args); });
}

}  // namespace hew::kernels
