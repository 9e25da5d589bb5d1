#pragma once

#include "autograd/linear_gradients.h"
#include "autograd/variable.h"
#include "core/beside.h"
#include "kernels/activation.h"
#include "sparsity/pattern.h"

namespace hew::sparsity {

/// Where products that go through dense ones keep a layer's W; null: each makes it anew.
using FoldedPtr = std::shared_ptr<kernels::FoldedWeight>;

/// A linear layer by its live blocks. The probe is a leaf of shape [N, K] without memory whose
/// gradient is the dense G = dYᵀ·X of a refresh step.
struct SparseLayer {
  ag::Variable values;  // [nnzb, b, b]
  ag::Variable probe;   // may be undefined
  ag::Variable bias;    // may be undefined
  PatternPtr pattern;
  FoldedPtr folded = {};  // of the values; may be null
};

/// Products with a matrix given by its live blocks, for ops that contain one: x [M, K], values
/// [nnzb, b, b], gradients of parameters in the accumulator of x's dtype.

/// y = act(x·Wᵀ + bias), or silu(gate) ⊙ (x·Wᵀ + bias), and where it is kept pre = x·Wᵀ + bias.
struct SparseForwardArgs {
  const Tensor& x;
  const Tensor& values;
  const ag::Variable& bias;  // may be undefined
  const BsrPattern& pattern;
  kernels::Activation activation = kernels::Activation::kNone;
  Tensor gate = {};       // [M, N]; undefined with an activation
  bool keep_pre = false;  // where there is an activation or a gate
  FoldedPtr folded = {};  // of these values; may be null
};
struct SparseForward {
  Tensor y;         // [M, N]
  Tensor pre = {};  // [M, N] or undefined
};
SparseForward sparse_forward(const SparseForwardArgs& args);
/// x·Wᵀ + bias of a layer, to which an ending may be added. Both must outlive it.
SparseForwardArgs product_of(const Tensor& x, const SparseLayer& layer);

/// d·W [M, K] for d [M, N].
Tensor sparse_input_gradient(const Tensor& d, const Tensor& values, const BsrPattern& pattern,
                             const FoldedPtr& folded);

/// A layer as the backward pass needs it.
struct KeptLayer {
  Tensor values;
  PatternPtr pattern;
  FoldedPtr folded;

  explicit KeptLayer(const SparseLayer& layer)
      : values(layer.values.value()), pattern(layer.pattern), folded(layer.folded) {}
  Tensor input_gradient(const Tensor& d) const {
    return sparse_input_gradient(d, values, *pattern, folded);
  }
};

/// Σ_m d[m, :] in the accumulator of d's dtype: the gradient of a bias.
Tensor sum_of_tokens(const Tensor& d);

/// dᵀ·x at the live blocks, into or onto `to`, there once `beside` has been joined where there is
/// one; and all of it [N, K].
Tensor live_gradient(const Tensor& d, const Tensor& x, const BsrPattern& pattern, ag::SumTarget to,
                     Beside* beside = nullptr);
Tensor dense_gradient(const Tensor& d, const Tensor& x);

/// Gradients of inputs `values` and `probe` of a rule, there once `beside` has been joined;
/// undefined where not needed. With a probe the live blocks are taken from its gradient.
struct SparseWeightGradients {
  Tensor values;
  Tensor probe;
};
struct SparseWeightInputs {
  std::size_t values = 1;
  std::size_t probe = 2;
};
SparseWeightGradients sparse_weight_gradients(const Tensor& d, const ag::Saved& x,
                                              const BsrPattern& pattern, ag::Needs& needs,
                                              const SparseWeightInputs& inputs, Beside& beside);

}  // namespace hew::sparsity
