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
/// added in float64 in the order of m.
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

/// Logits and their gradient are of one dtype, the rest of its accumulator. All throw ShapeError,
/// DtypeError. token_losses throws DataError naming the first target that is neither kIgnoredTarget
/// nor in [0, V); on a GPU, which would have to wait to tell, such a token's loss is NaN instead.
void token_losses(const TokenLosses& args, const Stream& stream);
void mean_loss(const MeanLoss& args, const Stream& stream);
void cross_entropy_backward(const CrossEntropyBackward& args, const Stream& stream);

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

}  // namespace hew::kernels
