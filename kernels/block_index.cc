#include "kernels/block_index.h"

#include <limits>
#include <tuple>

namespace hew::kernels {

void index_blocks(const BlockIndexArgs& args, const Stream& stream) {
  constexpr std::string_view kOp = "index_blocks";
  const ConstView& mask = args.mask;
  require<ShapeError>(mask.shape.rank() == 2, "[{}] mask has shape {}, expected [R, C]", kOp,
                      to_string(mask.shape));
  require<ShapeError>(mask.numel() <= std::numeric_limits<std::int32_t>::max(), "[{}] {} blocks",
                      kOp, mask.numel());
  require_dtype(kOp, "mask", mask, DType::kUInt8);
  const std::int64_t live = args.col.numel();
  for (const auto& [what, view, length] : {std::tuple{"crow", args.crow, mask.shape[0] + 1},
                                           {"col", args.col, live},
                                           {"ccol", args.ccol, mask.shape[1] + 1},
                                           {"row", args.row, live},
                                           {"position", args.position, live}}) {
    require_shape(kOp, what, view, {length});
    require_dtype(kOp, what, view, DType::kInt32);
    require_device(kOp, what, view, mask);
  }
  dispatch(kOp, mask.device, stream, DType::kFloat32,
           [&]<class T>(auto backend) { index_blocks(backend, args); });
}

}  // namespace hew::kernels
