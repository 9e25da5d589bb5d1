#include "kernels/soft_cross_entropy.h"

#include <limits>

namespace hew::kernels {
namespace {

void check(std::string_view op, const ConstView& logits, const ConstView& targets,
           double smoothing) {
  require<ShapeError>(logits.shape.rank() == 2 && logits.shape[1] > 0,
                      "[{}] logits have shape {}, expected [M, V]", op, to_string(logits.shape));
  require<ShapeError>(logits.shape[1] <= std::numeric_limits<std::int32_t>::max(),
                      "[{}] {} classes are too many", op, logits.shape[1]);
  require_shape(op, "targets", targets, logits.shape);
  require_dtype(op, "targets", targets, DType::kFloat32);
  require_device(op, "targets", targets, logits);
  require<ConfigError>(smoothing >= 0 && smoothing <= 1, "[{}] smoothing is {}, expected 0 to 1",
                       op, smoothing);
}

}  // namespace

void soft_cross_entropy(const SoftCrossEntropy& args, const Stream& stream) {
  constexpr std::string_view kOp = "soft_cross_entropy";
  check(kOp, args.logits, args.targets, args.smoothing);
  const Shape rows{args.logits.shape[0]};
  require_sums(kOp, "losses", args.losses, rows, args.logits);
  require_sums(kOp, "lse", args.lse, rows, args.logits);
  require_sums(kOp, "mass", args.mass, rows, args.logits);
  require_sums(kOp, "mean", args.mean, {}, args.logits);
  dispatch(kOp, args.logits.device, stream, args.logits.dtype,
           [&]<class T>(auto backend) { soft_cross_entropy<T>(backend, args); });
}

void soft_cross_entropy_backward(const SoftCrossEntropyBackward& args, const Stream& stream) {
  constexpr std::string_view kOp = "soft_cross_entropy_backward";
  check(kOp, args.logits, args.targets, args.smoothing);
  const Shape rows{args.logits.shape[0]};
  require_sums(kOp, "lse", args.lse, rows, args.logits);
  require_sums(kOp, "mass", args.mass, rows, args.logits);
  require_sums(kOp, "dmean", args.dmean, {}, args.logits);
  require_fits(kOp, "dlogits", args.dlogits, args.logits.shape, args.logits);
  dispatch(kOp, args.logits.device, stream, args.logits.dtype,
           [&]<class T>(auto backend) { soft_cross_entropy_backward<T>(backend, args); });
}

}  // namespace hew::kernels
