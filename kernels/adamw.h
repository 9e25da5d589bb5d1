#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// The numbers of one AdamW update, the same for all parameters. `step` is the update's index, from
/// 0. `grad_scale`, float64 [] or empty for 1, is multiplied into gradients as they are read
/// (clipping); where it is not finite the update does nothing.
struct AdamWStep {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  std::int64_t step = 0;
  ConstView grad_scale = {};
};

/// A parameter and its moments, all of one shape. g has w's dtype, float32 or float64; m and v have
/// it too, or are both bfloat16.
struct AdamWTensors {
  ConstView g;
  ConstView birth;  // int64 [1], for the whole parameter, or [w.shape[0]], one for each slice of
                    // the leading dimension
  View w;
  View m;
  View v;
  View working = {};  // empty, or bfloat16: becomes w, rounded to nearest even
  double weight_decay = 0;
  double lr_factor = 1;
};

/// One update of parameters that share one dtype, and whose moments do, torch.optim.AdamW's formula
/// (Loshchilov & Hutter 2019, algorithm 2):
///   t = step − birth + 1,  g' = grad_scale·g
///   m ← β1·m + (1 − β1)·g'
///   v ← β2·v + (1 − β2)·g'²
///   w ← w·(1 − lr·weight_decay) − lr·lr_factor/(1 − β1^t) · m / (√v/√(1 − β2^t) + eps)
/// A live block grown at step i has birth i and corrects its bias as a fresh parameter does. The
/// factor leaves the decay as it is: where it is 1, all is PyTorch's.
///
/// Moments in bfloat16 are read, updated and used for w in w's dtype, and rounded to nearest even
/// as they are stored. A change below half a unit in the last place, 2^−9 to 2^−8 of the moment, is
/// lost. So v may stand still while g'² is within 2^−8/(1 − β2) of it, relatively: 8 % at β2 =
/// 0.95. With β ≥ 1 − 2^−8 a moment whose gradient is gone does not decay; optim::AdamW refuses
/// that.
///
/// Throws ShapeError, DtypeError, and on the CPU, before anything is written, ConfigError where a
/// birth lies after `step`; on a GPU births are not checked, and such a slice becomes infinite or
/// NaN (optim::Optimizer lets none in).
void adamw(const AdamWStep& settings, std::span<const AdamWTensors> tensors, const Stream& stream);

template <class T>
void adamw(Cpu, const AdamWStep& settings, std::span<const AdamWTensors> tensors);
template <class T>
void adamw(Cuda, const AdamWStep& settings, std::span<const AdamWTensors> tensors);

}  // namespace hew::kernels
