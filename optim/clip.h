#pragma once

#include <span>
#include <vector>

#include "autograd/parameter.h"

namespace hew::optim {

/// What clipping by global norm asks for. It stays on the gradients' device: scale() goes to
/// Optimizer::step without the host waiting; norm() and bad() wait for it, once.
class GradientNorm {
 public:
  /// `result` is that of kernels::global_norm over the gradients of `parameters`.
  GradientNorm(Tensor result, std::vector<const ag::Parameter*> parameters);

  double norm() const { return read()[0]; }
  /// The first parameter whose gradient holds a NaN or an infinity, if any; then norm() is not
  /// finite and scale() is NaN.
  const ag::Parameter* bad() const;
  /// float64 [], on the device, as long as this object lives.
  ConstView scale() const;

 private:
  const std::vector<double>& read() const;

  Tensor result_;
  std::vector<const ag::Parameter*> parameters_;
  mutable std::vector<double> values_;  // result_ on the host, once it has been asked for
};

/// norm = √Σ g² over all gradients (undefined ones count as zero), in float64 and in an order that
/// depends on the parameters alone; scale = min(1, max_norm/(norm + 1e-6)), or 1 if max_norm is 0
/// (torch.nn.utils.clip_grad_norm_). Reads gradients only: Optimizer::step applies the scale.
GradientNorm gradient_norm(std::span<ag::Parameter* const> parameters, double max_norm);

}  // namespace hew::optim
