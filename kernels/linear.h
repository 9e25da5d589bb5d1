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

/// All of one dtype, but dw of its accumulator. The sums do not depend on the number of threads.
/// Throws ShapeError, DtypeError, BackendError.
void linear_forward(const LinearForwardArgs& args, const Stream& stream);
/// dx[M, K] ← dy[M, N]·w[N, K]
void linear_input_gradient(const ConstView& dy, const ConstView& w, const View& dx,
                           const Stream& stream);
/// dw[N, K] ← dy[M, N]ᵀ·x[M, K], added to what dw holds if `accumulate`.
void linear_weight_gradient(const ConstView& dy, const ConstView& x, const View& dw,
                            bool accumulate, const Stream& stream);

template <class T>
void linear_forward(Cpu, const LinearForwardArgs& args);
template <class T>
void linear_forward(Cuda, const LinearForwardArgs& args);
template <class T>
void linear_input_gradient(Cpu, const ConstView& dy, const ConstView& w, const View& dx);
template <class T>
void linear_input_gradient(Cuda, const ConstView& dy, const ConstView& w, const View& dx);
template <class T>
void linear_weight_gradient(Cpu, const ConstView& dy, const ConstView& x, const View& dw,
                            bool accumulate);
template <class T>
void linear_weight_gradient(Cuda, const ConstView& dy, const ConstView& x, const View& dw,
                            bool accumulate);

}  // namespace hew::kernels
