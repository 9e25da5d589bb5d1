#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Which samples go without a branch. Row b of a tensor is sample first_sample + b of the global
/// batch, so a slice of the batch draws what it would draw within the whole.
struct DropPathOptions {
  double p = 0;              // probability of a zero, 0 ≤ p < 1
  std::uint64_t key = 0;     // the run's seed
  std::uint64_t stream = 0;  // step and call
  std::uint64_t first_sample = 0;
};

/// Stochastic depth (Huang et al. 2016): y[b, …] ← x[b, …]·[uniform(key, stream, first_sample + b)
/// ≥ p]/(1 − p), uniform of core/rng.h; x [B, …]. Linear in x: the gradient is the same call on dy.
/// y may be x. Throws ShapeError, DtypeError, and ConfigError on a p outside [0, 1).
void drop_path(const DropPathOptions& options, const ConstView& x, const View& y,
               const Stream& stream);

template <class T>
void drop_path(Cpu, const DropPathOptions& options, const ConstView& x, const View& y);
template <class T>
void drop_path(Cuda, const DropPathOptions& options, const ConstView& x, const View& y);

}  // namespace hew::kernels
