#pragma once

#include <span>

#include "autograd/parameter.h"

namespace hew::optim {

/// What clipping by global norm asks for. `bad` is the first parameter whose gradient holds a NaN
/// or an infinity, if any; then norm is not finite and scale means nothing.
struct GradientNorm {
  double norm = 0;
  double scale = 1;
  const ag::Parameter* bad = nullptr;
};

/// norm = √Σ g² over all gradients (undefined ones count as zero), in float64 and in an order that
/// depends on the parameters alone; scale = min(1, max_norm/(norm + 1e-6)), or 1 if max_norm is 0
/// (torch.nn.utils.clip_grad_norm_). Reads gradients only: Optimizer::step applies the scale.
GradientNorm gradient_norm(std::span<ag::Parameter* const> parameters, double max_norm);

}  // namespace hew::optim
