#include "optim/clip.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"

namespace hew::optim {

GradientNorm gradient_norm(std::span<ag::Parameter* const> parameters, double max_norm) {
  constexpr double kEpsilon = 1e-6;  // PyTorch's
  GradientNorm out;
  double total = 0;
  for (const ag::Parameter* p : parameters) {
    const Tensor& grad = p->var.grad();
    if (!grad.defined())
      continue;
    const double squares = kernels::sum_of_squares(grad, grad.stream());
    if (!std::isfinite(squares) && out.bad == nullptr)
      out.bad = p;
    total += squares;
  }
  out.norm = std::sqrt(total);
  if (max_norm > 0)
    out.scale = std::min(1.0, max_norm / (out.norm + kEpsilon));
  return out;
}

}  // namespace hew::optim
