#include "autograd/norm.h"

#include <algorithm>

#include "kernels/norm.h"

namespace hew::ag {
namespace {

// One statistic a row of x.
Tensor row_statistic(const Tensor& x, const Tensor& weight) {
  const std::int64_t width = std::max<std::int64_t>(weight.numel(), 1);
  return Tensor::empty({x.numel() / width}, accumulator_of(x.dtype()), x.stream());
}

Tensor empty_like(const Tensor& x) {
  return Tensor::empty(x.shape(), x.dtype(), x.stream());
}

// The gradient of a weight or bias; a null view where it is not wanted.
Tensor sums_if(bool wanted, const Tensor& like) {
  return wanted ? Tensor::empty(like.shape(), accumulator_of(like.dtype()), like.stream())
                : Tensor();
}

ConstView view_or_null(const Variable& v) {
  return v ? v.value().view() : ConstView{};
}

// Where dx goes, and what it is added to: what others have given x, if its memory is free.
struct Target {
  Tensor dsum;
  Tensor dx;
};

Target target_of(Needs& needs, const Tensor& x) {
  const Needs::Gathered before = needs.take(0);
  return {.dsum = before.grad, .dx = before.writable ? before.grad : empty_like(x)};
}

// The tape's part of `sum`, which the norm's kernel has computed.
Variable recorded_sum(const Variable& x, const Variable& residual, const Tensor& sum) {
  if (!residual)
    return x;
  return record("add", sum, {x, residual}, [](const Tensor& dy, Needs&) {
    return std::vector<Tensor>{dy, dy};
  });
}

}  // namespace

AddedNorm add_layer_norm(const Variable& x, const Variable& residual, const Variable& weight,
                         const Variable& bias, const NormOptions& options) {
  const Tensor sum = residual ? empty_like(x.value()) : x.value();
  Tensor y = empty_like(sum);
  Tensor mean = row_statistic(sum, weight.value());
  Tensor rstd = row_statistic(sum, weight.value());
  kernels::layer_norm_forward({.x = x.value(),
                               .residual = view_or_null(residual),
                               .weight = weight.value(),
                               .bias = view_or_null(bias),
                               .eps = options.eps,
                               .sum = residual ? Tensor(sum).view() : View{},
                               .y = y,
                               .mean = mean,
                               .rstd = rstd},
                              x.stream());
  AddedNorm out{.sum = recorded_sum(x, residual, sum), .normed = {}};
  out.normed = record("layer_norm", y, {out.sum, weight, bias},
                      [sum, weight = weight.value(), mean, rstd](const Tensor& dy, Needs& needs) {
                        Target target = target_of(needs, sum);
                        Tensor dweight = sums_if(needs[1], weight);
                        Tensor dbias = sums_if(needs[2], weight);
                        kernels::layer_norm_backward({.x = sum,
                                                      .weight = weight,
                                                      .mean = mean,
                                                      .rstd = rstd,
                                                      .dy = dy,
                                                      .dsum = target.dsum,
                                                      .dx = target.dx,
                                                      .dweight = dweight,
                                                      .dbias = dbias},
                                                     dy.stream());
                        return std::vector<Tensor>{target.dx, dweight, dbias};
                      });
  if (options.remake) {
    out.normed = with_remake(
        out.normed,
        [sum, weight = weight.value(), bias = bias ? bias.value() : Tensor(), eps = options.eps] {
          Tensor again = empty_like(sum);
          Tensor own_mean = row_statistic(sum, weight);
          Tensor own_rstd = row_statistic(sum, weight);
          kernels::layer_norm_forward({.x = sum,
                                       .weight = weight,
                                       .bias = bias.defined() ? bias.view() : ConstView{},
                                       .eps = eps,
                                       .y = again,
                                       .mean = own_mean,
                                       .rstd = own_rstd},
                                      sum.stream());
          return again;
        });
  }
  return out;
}

AddedNorm add_rms_norm(const Variable& x, const Variable& residual, const Variable& weight,
                       const NormOptions& options) {
  const Tensor sum = residual ? empty_like(x.value()) : x.value();
  Tensor y = empty_like(sum);
  Tensor rstd = row_statistic(sum, weight.value());
  kernels::rms_norm_forward({.x = x.value(),
                             .residual = view_or_null(residual),
                             .weight = weight.value(),
                             .eps = options.eps,
                             .sum = residual ? Tensor(sum).view() : View{},
                             .y = y,
                             .rstd = rstd},
                            x.stream());
  AddedNorm out{.sum = recorded_sum(x, residual, sum), .normed = {}};
  out.normed = record("rms_norm", y, {out.sum, weight},
                      [sum, weight = weight.value(), rstd](const Tensor& dy, Needs& needs) {
                        Target target = target_of(needs, sum);
                        Tensor dweight = sums_if(needs[1], weight);
                        kernels::rms_norm_backward({.x = sum,
                                                    .weight = weight,
                                                    .rstd = rstd,
                                                    .dy = dy,
                                                    .dsum = target.dsum,
                                                    .dx = target.dx,
                                                    .dweight = dweight},
                                                   dy.stream());
                        return std::vector<Tensor>{target.dx, dweight};
                      });
  if (options.remake) {
    out.normed = with_remake(out.normed, [sum, weight = weight.value(), eps = options.eps] {
      Tensor again = empty_like(sum);
      Tensor own_rstd = row_statistic(sum, weight);
      kernels::rms_norm_forward(
          {.x = sum, .weight = weight, .eps = eps, .y = again, .rstd = own_rstd}, sum.stream());
      return again;
    });
  }
  return out;
}

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps) {
  return add_layer_norm(x, Variable(), weight, bias, {.eps = eps}).normed;
}

Variable rms_norm(const Variable& x, const Variable& weight, double eps) {
  return add_rms_norm(x, Variable(), weight, {.eps = eps}).normed;
}

}  // namespace hew::ag
