#include "kernels/blocks.h"

#include <algorithm>
#include <type_traits>

namespace hew::kernels {
namespace {

// [R, C] of a matrix cut into blocks.
Shape grid_of(std::string_view op, const ConstView& dense, std::int64_t block) {
  require<ShapeError>(dense.shape.rank() == 2, "[{}] a matrix has shape {}", op,
                      to_string(dense.shape));
  require<ShapeError>(block > 0, "[{}] block is {}", op, block);
  return {(dense.shape[0] + block - 1) / block, (dense.shape[1] + block - 1) / block};
}

void require_norms(std::string_view op, const View& norms, const Shape& shape,
                   const ConstView& of) {
  require_shape(op, "norms", norms, shape);
  require<DtypeError>(norms.dtype == DType::kFloat64, "[{}] norms are {}, expected float64", op,
                      name_of(norms.dtype));
  require_device(op, "norms", norms, of);
}

}  // namespace

void block_norms(const ConstView& dense, std::int64_t block, const View& norms,
                 const Stream& stream) {
  constexpr std::string_view kOp = "block_norms";
  require_norms(kOp, norms, grid_of(kOp, dense, block), dense);
  dispatch(kOp, dense.device, stream, dense.dtype,
           [&]<class T>(auto backend) { block_norms<T>(backend, dense, block, norms); });
}

void live_block_norms(const ConstView& values, const BsrIndex& index, const View& norms,
                      const Stream& stream) {
  constexpr std::string_view kOp = "live_block_norms";
  require_bsr(kOp, index, values);
  require_norms(kOp, norms, {index.nnzb}, values);
  dispatch(kOp, values.device, stream, values.dtype,
           [&]<class T>(auto backend) { live_block_norms<T>(backend, values, index, norms); });
}

void gather_blocks(const ConstView& dense, const BsrIndex& index, const View& values,
                   const Stream& stream) {
  constexpr std::string_view kOp = "gather_blocks";
  require_bsr(kOp, index, values);
  require_shape(kOp, "dense", dense, {index.rows, index.cols});
  require_like(kOp, "values", values, dense);
  dispatch(kOp, dense.device, stream, dense.dtype,
           [&]<class T>(auto backend) { gather_blocks<T>(backend, dense, index, values); });
}

void accumulate_blocks(const ConstView& dense, const BsrIndex& index, const View& values,
                       const Stream& stream) {
  constexpr std::string_view kOp = "accumulate_blocks";
  require_bsr(kOp, index, values);
  require_shape(kOp, "dense", dense, {index.rows, index.cols});
  require_like(kOp, "values", values, dense);
  dispatch(kOp, dense.device, stream, dense.dtype,
           [&]<class T>(auto backend) { accumulate_blocks<T>(backend, dense, index, values); });
}

void scatter_blocks(const ConstView& values, const BsrIndex& index, const View& dense,
                    const Stream& stream) {
  constexpr std::string_view kOp = "scatter_blocks";
  require_bsr(kOp, index, values);
  require_fits(kOp, "dense", dense, {index.rows, index.cols}, values);
  dispatch(kOp, values.device, stream, values.dtype,
           [&]<class T>(auto backend) { scatter_blocks<T>(backend, values, index, dense); });
}

void move_blocks(const ConstView& values, const ConstView& source, const View& moved,
                 const Stream& stream) {
  constexpr std::string_view kOp = "move_blocks";
  const bool slices =
      values.shape.rank() > 0 && values.shape.rank() == moved.shape.rank() &&
      std::equal(values.shape.begin() + 1, values.shape.end(), moved.shape.begin() + 1);
  require<ShapeError>(slices, "[{}] slices of shape {} do not fit into {}", kOp,
                      to_string(values.shape), to_string(moved.shape));
  require_shape(kOp, "source", source, {moved.shape[0]});
  require<DtypeError>(source.dtype == DType::kInt64, "[{}] source is {}, expected int64", kOp,
                      name_of(source.dtype));
  require_device(kOp, "source", source, values);
  require_like(kOp, "moved", moved, values);
  dispatch(kOp, values.device, stream, values.dtype,
           [&]<class T>(auto backend) { move_blocks<T>(backend, values, source, moved); });
}

void block_dot(const ConstView& g, const ConstView& w, std::int64_t block, const View& dots,
               const Stream& stream) {
  constexpr std::string_view kOp = "block_dot";
  require_sums(kOp, "dots", dots, grid_of(kOp, w, block), w);
  require_sums(kOp, "g", g, w.shape, w);
  dispatch(kOp, w.device, stream, w.dtype,
           [&]<class T>(auto backend) { block_dot<T>(backend, g, w, block, dots); });
}

void blend_blocks(const BlendBlocks& args, const Stream& stream) {
  constexpr std::string_view kOp = "blend_blocks";
  const Shape grid = grid_of(kOp, args.x, args.block);
  require_shape(kOp, "a", args.a, grid);
  require_dtype(kOp, "a", args.a, DType::kFloat64);
  require_device(kOp, "a", args.a, args.x);
  if (args.y.data != nullptr || args.b.data != nullptr) {
    require_fits(kOp, "y", args.y, args.x.shape, args.x);
    require_fits(kOp, "b", args.b, grid, args.a);
  }
  require_fits(kOp, "out", args.out, args.x.shape, args.x);
  require<DtypeError>(args.x.dtype == accumulator_of(args.x.dtype),
                      "[{}] x is {}, expected float32 or float64", kOp, name_of(args.x.dtype));
  dispatch(kOp, args.x.device, stream, args.x.dtype, [&]<class T>(auto backend) {
    if constexpr (std::is_same_v<T, Accumulator<T>>)
      blend_blocks<T>(backend, args);
  });
}

}  // namespace hew::kernels
