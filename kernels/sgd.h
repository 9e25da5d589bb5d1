#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// The numbers of one SGD update. `grad_scale`, float64 [] or empty for 1, is multiplied into the
/// gradient as it is read; where it is not finite the update does nothing.
struct SgdStep {
  double lr = 1e-2;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  ConstView grad_scale = {};
};

/// A parameter and its momentum, of one shape and dtype, float32 or float64.
struct SgdTensors {
  ConstView g;
  View w;
  View buffer = {};   // may be empty
  View working = {};  // empty, or bfloat16: becomes w, rounded to nearest even
};

/// One update of one parameter, torch.optim.SGD's formula with dampening 0 (Sutskever et al. 2013):
///   d = grad_scale·g + weight_decay·w
///   buffer ← momentum·buffer + d
///   w ← w − lr·(nesterov ? d + momentum·buffer : buffer)
/// A buffer of zeros is a fresh start, for a parameter or for one grown block. An empty buffer is
/// plain descent: w ← w − lr·d; momentum must then be 0, or ConfigError is thrown.
void sgd(const SgdStep& settings, const SgdTensors& tensors, const Stream& stream);

template <class T>
void sgd(Cpu, const SgdStep& settings, const SgdTensors& tensors);
template <class T>
void sgd(Cuda, const SgdStep& settings, const SgdTensors& tensors);

}  // namespace hew::kernels
