#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// A target that is not counted: its loss and gradient are zero.
inline constexpr std::int32_t kIgnoredTarget = -1;

/// Per token m:  lse[m] = log Σ_v e^logits[m, v],  losses[m] = lse[m] − logits[m, targets[m]] in
/// nats, and 0 where the target is kIgnoredTarget.
struct TokenLosses {
  ConstView logits;   // [M, V]
  ConstView targets;  // [M] int32
  View losses;        // [M]
  View lse;           // [M]
};

/// weight ← scale / number of counted targets (0 if there are none),  mean ← weight·Σ_m losses[m],
/// added in float64, on the CPU in the order of m, on a GPU in an order that M alone decides.
struct MeanLoss {
  ConstView losses;   // [M]
  ConstView targets;  // [M] int32
  double scale = 1;
  View mean;    // []
  View weight;  // []
};

/// dlogits[m, v] ← dmean·weight·(e^(logits[m, v] − lse[m]) − [v = targets[m]]), and 0 for tokens
/// that are not counted.
struct CrossEntropyBackward {
  ConstView logits;   // [M, V]
  ConstView targets;  // [M] int32
  ConstView lse;      // [M]
  ConstView weight;   // []
  ConstView dmean;    // []
  View dlogits;       // [M, V]; may be logits
};

/// token_losses and their gradient in one pass, which puts the gradient in the logits' place:
///   losses[m] as above,  logits[m, v] ← weight·(softmax(logits[m, :])[v] − [v = targets[m]]),
/// both 0 for tokens that are not counted.
struct FusedCrossEntropy {
  View logits;        // [M, V]; out: their gradient
  ConstView targets;  // [M] int32
  ConstView weight;   // []
  View losses;        // [M]
};

/// Logits and their gradient are of one dtype, the rest of its accumulator. All throw ShapeError,
/// DtypeError. token_losses and fused_cross_entropy throw DataError naming the first target that is
/// neither kIgnoredTarget nor in [0, V); on a GPU, which would have to wait to tell, such a token's
/// loss and gradient are NaN instead.
void token_losses(const TokenLosses& args, const Stream& stream);
void mean_loss(const MeanLoss& args, const Stream& stream);
void cross_entropy_backward(const CrossEntropyBackward& args, const Stream& stream);
void fused_cross_entropy(const FusedCrossEntropy& args, const Stream& stream);

/// weight[] ← scale / number of counted targets (0 if there are none), float32 or float64.
void target_weight(const ConstView& targets, double scale, const View& weight,
                   const Stream& stream);

/// What token_losses checks of its targets, for a caller that hands them over in pieces. Nothing on
/// a GPU.
void check_targets(const ConstView& targets, std::int64_t vocabulary);

template <class T>
void token_losses(Cpu, const TokenLosses& args);
template <class T>
void token_losses(Cuda, const TokenLosses& args);
template <class T>
void mean_loss(Cpu, const MeanLoss& args);
template <class T>
void mean_loss(Cuda, const MeanLoss& args);
template <class T>
void cross_entropy_backward(Cpu, const CrossEntropyBackward& args);
template <class T>
void cross_entropy_backward(Cuda, const CrossEntropyBackward& args);
template <class T>
void fused_cross_entropy(Cpu, const FusedCrossEntropy& args);
template <class T>
void fused_cross_entropy(Cuda, const FusedCrossEntropy& args);
template <class T>
void target_weight(Cpu, const ConstView& targets, double scale, const View& weight);
template <class T>
void target_weight(Cuda, const ConstView& targets, double scale, const View& weight);

}  // namespace hew::kernels
