#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Which bits drop what. Element i of a tensor is element first_element + i of the global batch, so
/// a slice of the batch draws the bits it would draw within the whole.
struct DropoutOptions {
  double p = 0;              // probability of a zero, 0 ≤ p < 1
  std::uint64_t key = 0;     // the run's seed
  std::uint64_t stream = 0;  // step and call
  std::uint64_t first_element = 0;
};

/// y[i] ← x[i]·[uniform(key, stream, first_element + i) ≥ p]/(1 − p), uniform of core/rng.h
/// (Srivastava et al. 2014). Linear in x: the gradient is the same call on dy. y may be x.
/// Throws ShapeError, DtypeError, and ConfigError on a p outside [0, 1).
void dropout(const DropoutOptions& options, const ConstView& x, const View& y,
             const Stream& stream);

template <class T>
void dropout(Cpu, const DropoutOptions& options, const ConstView& x, const View& y);
template <class T>
void dropout(Cuda, const DropoutOptions& options, const ConstView& x, const View& y);

}  // namespace hew::kernels
