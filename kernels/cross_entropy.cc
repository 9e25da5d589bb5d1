#include "kernels/cross_entropy.h"

#include <limits>

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
  require<ShapeError>(logits.shape[1] <= std::numeric_limits<std::int32_t>::max(),
                      "[{}] targets are int32, the vocabulary has {}", op, logits.shape[1]);
  require_targets(op, targets, logits.shape[0], logits);
}

}  // namespace

void check_targets(const ConstView& targets, std::int64_t vocabulary) {
  if (!targets.device.is_cpu())
    return;
  const std::int32_t* target = targets.as<std::int32_t>();
  for (std::int64_t m = 0; m < targets.numel(); ++m) {
    require<DataError>(target[m] == kIgnoredTarget || (target[m] >= 0 && target[m] < vocabulary),
                       "[cross_entropy] target {} at position {} is outside a vocabulary of {}",
                       target[m], m, vocabulary);
  }
}

void token_losses(const TokenLosses& args, const Stream& stream) {
  constexpr std::string_view kOp = "cross_entropy";
  check_logits(kOp, args.logits, args.targets);
  require_sums(kOp, "losses", args.losses, args.targets.shape, args.logits);
  require_sums(kOp, "lse", args.lse, args.targets.shape, args.logits);
  check_targets(args.targets, args.logits.shape[1]);
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

void fused_cross_entropy(const FusedCrossEntropy& args, const Stream& stream) {
  constexpr std::string_view kOp = "fused_cross_entropy";
  check_logits(kOp, args.logits, args.targets);
  require_sums(kOp, "weight", args.weight, {}, args.logits);
  require_sums(kOp, "losses", args.losses, args.targets.shape, args.logits);
  check_targets(args.targets, args.logits.shape[1]);
  dispatch(kOp, args.logits.device, stream, args.logits.dtype,
           [&]<class T>(auto backend) { fused_cross_entropy<T>(backend, args); });
}

void target_weight(const ConstView& targets, double scale, const View& weight,
                   const Stream& stream) {
  constexpr std::string_view kOp = "target_weight";
  require_targets(kOp, targets, targets.numel(), weight);
  require_shape(kOp, "weight", weight, {});
  dispatch(kOp, weight.device, stream, weight.dtype,
           [&]<class T>(auto backend) { target_weight<T>(backend, targets, scale, weight); });
}

}  // namespace hew::kernels
