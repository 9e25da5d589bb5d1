#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// Gradients of y = x·wᵀ + bias for the rules of ops that contain one, added in place to what the
/// inputs have been given by others.

/// Where a rule's gradient for one input goes: over what the input has been given by others, added
/// to it, or into new memory.
struct SumTarget {
  Tensor sum;
  bool accumulate = false;
};
SumTarget sum_target(Needs& needs, std::size_t i, const Shape& shape, DType dtype,
                     const Stream& stream);

/// dy·w for input i, x of shape [M, K].
Tensor linear_input_gradient(const Tensor& dy, const Tensor& w, Needs& needs, std::size_t i);

/// Undefined where not needed.
struct LinearWeightGradients {
  Tensor dw;     // [N, K]
  Tensor dbias;  // [N]
};
/// dyᵀ·x for input `weight`, and Σ_m dy[m, :] for input `bias` (needs.size() if there is none).
struct LinearWeightInputs {
  std::size_t weight = 1;
  std::size_t bias = 2;
};
LinearWeightGradients linear_weight_gradients(const Tensor& dy, const Saved& x, Needs& needs,
                                              const LinearWeightInputs& inputs);

}  // namespace hew::ag
