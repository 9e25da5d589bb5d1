#include "kernels/top_blocks.h"

namespace hew::kernels {
namespace {

void require_mask(std::string_view op, const ConstView& scores, const View& mask) {
  require<ShapeError>(scores.shape.rank() == 1, "[{}] scores have shape {}, expected [n]", op,
                      to_string(scores.shape));
  require_dtype(op, "scores", scores, DType::kFloat64);
  require_shape(op, "mask", mask, scores.shape);
  require_dtype(op, "mask", mask, DType::kUInt8);
  require_device(op, "mask", mask, scores);
}

}  // namespace

void top_blocks(const ConstView& scores, std::int64_t keep, const View& mask,
                const Stream& stream) {
  constexpr std::string_view kOp = "top_blocks";
  require_mask(kOp, scores, mask);
  require<ShapeError>(keep >= 0 && keep <= scores.numel(), "[{}] {} blocks wanted of {}", kOp, keep,
                      scores.numel());
  dispatch(kOp, scores.device, stream, scores.dtype,
           [&]<class T>(auto backend) { top_blocks(backend, scores, keep, mask); });
}

void threshold_blocks(const ConstView& scores, double threshold, const View& mask,
                      const Stream& stream) {
  constexpr std::string_view kOp = "threshold_blocks";
  require_mask(kOp, scores, mask);
  dispatch(kOp, scores.device, stream, scores.dtype,
           [&]<class T>(auto backend) { threshold_blocks(backend, scores, threshold, mask); });
}

}  // namespace hew::kernels
