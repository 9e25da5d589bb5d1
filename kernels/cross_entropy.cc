#include "kernels/cross_entropy.h"

namespace hew::kernels {
namespace {

void require_targets(std::string_view op, const ConstView& targets, std::int64_t tokens,
                     const ConstView& like) {
  require_shape(op, "targets", targets, {tokens});
  require_device(op, "targets", targets, like);
  require<DtypeError>(targets.dtype == DType::kInt32, "[{}] targets are {}, expected int32", op,
                      name_of(targets.dtype));
}

void check_logits(std::string_view op, const ConstView& logits, const ConstView& targets) {
  require<ShapeError>(logits.shape.rank() == 2 && logits.shape[1] > 0,
                      "[{}] logits have shape {}, expected [M, V]", op, to_string(logits.shape));
  require_targets(op, targets, logits.shape[0], logits);
}

}  // namespace

void token_losses(const TokenLosses& args, const Stream& stream) {
  constexpr std::string_view kOp = "cross_entropy";
  check_logits(kOp, args.logits, args.targets);
  require_sums(kOp, "losses", args.losses, args.targets.shape, args.logits);
  require_sums(kOp, "lse", args.lse, args.targets.shape, args.logits);
  dispatch(kOp, args.logits.device, stream, args.logits.dtype,
           [&]<class T>(auto backend) { token_losses<T>(backend, args); });
}

void mean_loss(const MeanLoss& args, const Stream& stream) {
  constexpr std::string_view kOp = "mean_loss";
  require_targets(kOp, args.targets, args.losses.numel(), args.losses);
  require_fits(kOp, "mean", args.mean, {}, args.losses);
  require_fits(kOp, "weight", args.weight, {}, args.losses);
  dispatch(kOp, args.losses.device, stream, args.losses.dtype,
           [&]<class T>(auto backend) { mean_loss<T>(backend, args); });
}

void cross_entropy_backward(const CrossEntropyBackward& args, const Stream& stream) {
  constexpr std::string_view kOp = "cross_entropy_backward";
  check_logits(kOp, args.logits, args.targets);
  require_sums(kOp, "lse", args.lse, args.targets.shape, args.logits);
  require_sums(kOp, "weight", args.weight, {}, args.logits);
  require_sums(kOp, "dmean", args.dmean, {}, args.logits);
  require_fits(kOp, "dlogits", args.dlogits, args.logits.shape, args.logits);
  dispatch(kOp, args.logits.device, stream, args.logits.dtype,
           [&]<class T>(auto backend) { cross_entropy_backward<T>(backend, args); });
}

}  // namespace hew::kernels
