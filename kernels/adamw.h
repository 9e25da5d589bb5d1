#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// The numbers of one AdamW update. `step` is the update's index, from 0; `grad_scale` is
/// multiplied into the gradient as it is read (clipping).
struct AdamWStep {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  double grad_scale = 1;
  std::int64_t step = 0;
};

/// A parameter and its moments, of one shape and dtype.
struct AdamWTensors {
  ConstView g;
  ConstView birth;  // int64 [1], for the whole parameter, or [w.shape[0]], one for each slice of
                    // the leading dimension
  View w;
  View m;
  View v;
};

/// One update of one parameter, torch.optim.AdamW's formula (Loshchilov & Hutter 2019, algorithm
/// 2):
///   t = step − birth + 1,  g' = grad_scale·g
///   m ← β1·m + (1 − β1)·g'
///   v ← β2·v + (1 − β2)·g'²
///   w ← w·(1 − lr·weight_decay) − lr/(1 − β1^t) · m / (√v/√(1 − β2^t) + eps)
/// A live block grown at step i has birth i and corrects its bias as a fresh parameter does. Throws
/// ShapeError, DtypeError, and ConfigError where a birth lies after `step`.
void adamw(const AdamWStep& settings, const AdamWTensors& tensors, const Stream& stream);

template <class T>
void adamw(Cpu, const AdamWStep& settings, const AdamWTensors& tensors);
template <class T>
void adamw(Cuda, const AdamWStep& settings, const AdamWTensors& tensors);

}  // namespace hew::kernels
