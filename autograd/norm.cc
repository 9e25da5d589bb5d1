#include "autograd/norm.h"

#include <algorithm>

#include "kernels/norm.h"

namespace hew::ag {
namespace {

// One statistic a row of x.
Tensor row_statistic(const Variable& x, const Variable& weight) {
  const std::int64_t width = std::max<std::int64_t>(weight.value().numel(), 1);
  return Tensor::empty({x.value().numel() / width}, x.dtype(), x.stream());
}

Tensor empty_if(bool wanted, const Tensor& like) {
  return wanted ? Tensor::empty(like.shape(), like.dtype(), like.stream()) : Tensor();
}

}  // namespace

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  Tensor mean = row_statistic(x, weight);
  Tensor rstd = row_statistic(x, weight);
  kernels::layer_norm_forward({.x = x.value(),
                               .weight = weight.value(),
                               .bias = bias ? bias.value().view() : ConstView{},
                               .eps = eps,
                               .y = y,
                               .mean = mean,
                               .rstd = rstd},
                              x.stream());
  return record(
      "layer_norm", y, {x, weight, bias},
      [x = x.value(), weight = weight.value(), mean, rstd](const Tensor& dy, Needs& needs) {
        Tensor dx = empty_if(true, x);
        Tensor dweight = empty_if(needs[1], weight);
        Tensor dbias = empty_if(needs[2], weight);
        kernels::layer_norm_backward({.x = x,
                                      .weight = weight,
                                      .mean = mean,
                                      .rstd = rstd,
                                      .dy = dy,
                                      .dx = dx,
                                      .dweight = dweight,
                                      .dbias = dbias},
                                     dy.stream());
        return std::vector<Tensor>{dx, dweight, dbias};
      });
}

Variable rms_norm(const Variable& x, const Variable& weight, double eps) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  Tensor rstd = row_statistic(x, weight);
  kernels::rms_norm_forward(
      {.x = x.value(), .weight = weight.value(), .eps = eps, .y = y, .rstd = rstd}, x.stream());
  return record(
      "rms_norm", y, {x, weight},
      [x = x.value(), weight = weight.value(), rstd](const Tensor& dy, Needs& needs) {
        Tensor dx = empty_if(true, x);
        Tensor dweight = empty_if(needs[1], weight);
        kernels::rms_norm_backward(
            {.x = x, .weight = weight, .rstd = rstd, .dy = dy, .dx = dx, .dweight = dweight},
            dy.stream());
        return std::vector<Tensor>{dx, dweight};
      });
}

}  // namespace hew::ag
