#pragma once

#include <span>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// The numbers of one SGD update, the same for all parameters. `grad_scale`, float64 [] or empty
/// for 1, is multiplied into gradients as they are read; where it is not finite the update does
/// nothing.
struct SgdStep {
  double lr = 1e-2;
  double momentum = 0;
  bool nesterov = false;
  ConstView grad_scale = {};
};

/// A parameter and its momentum, of one shape and dtype, float32 or float64.
struct SgdTensors {
  ConstView g;
  View w;
  View buffer = {};   // may be empty
  View working = {};  // empty, or bfloat16: becomes w, rounded to nearest even
  double weight_decay = 0;
  double lr_factor = 1;
};

/// One update of parameters that share one dtype, torch.optim.SGD's formula with dampening 0
/// (Sutskever et al. 2013):
///   d = grad_scale·g + weight_decay·w
///   buffer ← momentum·buffer + d
///   w ← w − lr·lr_factor·(nesterov ? d + momentum·buffer : buffer)
/// A buffer of zeros is a fresh start, for a parameter or for one grown block. An empty buffer is
/// plain descent: w ← w − lr·lr_factor·d; momentum must then be 0, or ConfigError is thrown. Throws
/// ShapeError, DtypeError.
void sgd(const SgdStep& settings, std::span<const SgdTensors> tensors, const Stream& stream);

template <class T>
void sgd(Cpu, const SgdStep& settings, std::span<const SgdTensors> tensors);
template <class T>
void sgd(Cuda, const SgdStep& settings, std::span<const SgdTensors> tensors);

}  // namespace hew::kernels
