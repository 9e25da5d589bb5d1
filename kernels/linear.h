#pragma once

#include "core/tensor.h"
#include "kernels/activation.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y[M, N] ← act(x[M, K]·w[N, K]ᵀ + bias[N]). The outputs overlap no input.
struct LinearForwardArgs {
  ConstView x;
  ConstView w;
  ConstView bias = {};  // may be null
  Activation activation = Activation::kNone;
  View y;         // [M, N]
  View pre = {};  // may be null; x·wᵀ + bias [M, N] for the backward pass, where activated
};

/// dx[M, K] ← (dy[M, N]·w[N, K]) ⊙ act'(pre[M, K]), and dbias[K] ← Σ_m dx[m, :]: with an activation
/// the gradient goes on through the layer that made x = act(pre), and x can be made again on the
/// way. dbias sums dx before or after it is rounded. The outputs overlap no input, but activated
/// may be pre.
struct LinearInputGradientArgs {
  ConstView dy;
  ConstView w;
  View dx;
  bool accumulate = false;  // added to what dx holds; without an activation only
  Activation activation = Activation::kNone;
  ConstView pre = {};   // what the activation was given; null without one
  View dbias = {};      // may be null, and is without an activation
  View activated = {};  // [M, K], takes act(pre); may be null, and is without an activation
};

/// dw[N, K] ← dy[M, N]ᵀ·x[M, K] and dbias[N] ← Σ_m dy[m, :], both added to what they hold if
/// `accumulate`. The outputs overlap no input.
struct LinearWeightGradientArgs {
  ConstView dy;
  ConstView x;
  View dw;
  bool accumulate = false;
  View dbias = {};  // may be null
};

/// All of one dtype, but dw and dbias of its accumulator. On the CPU the sums do not depend on the
/// number of threads; on a GPU ProductSettings say how products are computed and chosen, and the
/// first call of a shape may wait for the device. Throws ShapeError, DtypeError, BackendError;
/// Error where an activation meets `accumulate`.
void linear_forward(const LinearForwardArgs& args, const Stream& stream);
void linear_input_gradient(const LinearInputGradientArgs& args, const Stream& stream);
void linear_weight_gradient(const LinearWeightGradientArgs& args, const Stream& stream);

template <class T>
void linear_forward(Cpu, const LinearForwardArgs& args);
template <class T>
void linear_forward(Cuda, const LinearForwardArgs& args);
template <class T>
void linear_input_gradient(Cpu, const LinearInputGradientArgs& args);
template <class T>
void linear_input_gradient(Cuda, const LinearInputGradientArgs& args);
template <class T>
void linear_weight_gradient(Cpu, const LinearWeightGradientArgs& args);
template <class T>
void linear_weight_gradient(Cuda, const LinearWeightGradientArgs& args);

}  // namespace hew::kernels
