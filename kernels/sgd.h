#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// The numbers of one SGD update; `grad_scale` is multiplied into the gradient as it is read.
struct SgdStep {
  double lr = 1e-2;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  double grad_scale = 1;
};

/// One update of one parameter, torch.optim.SGD's formula with dampening 0 (Sutskever et al. 2013):
///   d = grad_scale·g + weight_decay·w
///   buffer ← momentum·buffer + d
///   w ← w − lr·(nesterov ? d + momentum·buffer : buffer)
/// g, w and buffer have one shape and dtype. A buffer of zeros is a fresh start, for a parameter or
/// for one grown block. A null buffer is plain descent: w ← w − lr·d; momentum must then be 0, or
/// ConfigError is thrown.
void sgd(const SgdStep& settings, const ConstView& g, const View& w, const View& buffer,
         const Stream& stream);

template <class T>
void sgd(Cpu, const SgdStep& settings, const ConstView& g, const View& w, const View& buffer);
template <class T>
void sgd(Cuda, const SgdStep& settings, const ConstView& g, const View& w, const View& buffer);

}  // namespace hew::kernels
