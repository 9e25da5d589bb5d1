#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Cross entropy against a distribution over V classes. With smoothing ε (Szegedy et al. 2016)
///   t'[m, v] = (1 − ε)·targets[m, v] + ε/V,   mass[m] = Σ_v t'[m, v],
///   lse[m] = log Σ_v e^logits[m, v],   losses[m] = Σ_v t'[m, v]·(lse[m] − logits[m, v]) in nats,
///   mean = scale/M · Σ_m losses[m], added in float64 in an order that M alone decides.
struct SoftCrossEntropy {
  ConstView logits;   // [M, V]
  ConstView targets;  // [M, V] float32
  double smoothing = 0;
  double scale = 1;
  View losses;  // [M]
  View lse;     // [M]
  View mass;    // [M]
  View mean;    // []
};

/// dlogits[m, v] ← dmean·scale/M·(mass[m]·e^(logits[m, v] − lse[m]) − t'[m, v])
struct SoftCrossEntropyBackward {
  ConstView logits;   // [M, V]
  ConstView targets;  // [M, V] float32
  ConstView lse;      // [M]
  ConstView mass;     // [M]
  ConstView dmean;    // []
  double smoothing = 0;
  double scale = 1;
  View dlogits;  // [M, V]; may be logits
};

/// Logits and their gradient are of one dtype, the rest but targets of its accumulator. Throw
/// ShapeError, DtypeError, and ConfigError on a smoothing outside [0, 1].
void soft_cross_entropy(const SoftCrossEntropy& args, const Stream& stream);
void soft_cross_entropy_backward(const SoftCrossEntropyBackward& args, const Stream& stream);

template <class T>
void soft_cross_entropy(Cpu, const SoftCrossEntropy& args);
template <class T>
void soft_cross_entropy(Cuda, const SoftCrossEntropy& args);
template <class T>
void soft_cross_entropy_backward(Cpu, const SoftCrossEntropyBackward& args);
template <class T>
void soft_cross_entropy_backward(Cuda, const SoftCrossEntropyBackward& args);

}  // namespace hew::kernels
