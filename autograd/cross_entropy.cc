#include "autograd/cross_entropy.h"

#include "kernels/cross_entropy.h"

namespace hew::ag {

Variable cross_entropy(const Variable& logits, const Tensor& targets, double scale) {
  const Stream& stream = logits.stream();
  const DType sums = accumulator_of(logits.dtype());
  Tensor losses = Tensor::empty(targets.shape(), sums, stream);
  Tensor lse = Tensor::empty(targets.shape(), sums, stream);
  Tensor mean = Tensor::empty({}, sums, stream);
  Tensor weight = Tensor::empty({}, sums, stream);
  kernels::token_losses(
      {.logits = logits.value(), .targets = targets, .losses = losses, .lse = lse}, stream);
  kernels::mean_loss(
      {.losses = losses, .targets = targets, .scale = scale, .mean = mean, .weight = weight},
      stream);
  auto rule = [logits = logits.value(), targets, lse, weight](const Tensor& dmean, Needs&) {
    Tensor dlogits = Tensor::empty(logits.shape(), logits.dtype(), logits.stream());
    kernels::cross_entropy_backward({.logits = logits,
                                     .targets = targets,
                                     .lse = lse,
                                     .weight = weight,
                                     .dmean = dmean,
                                     .dlogits = dlogits},
                                    dmean.stream());
    return std::vector<Tensor>{dlogits};
  };
  return record("cross_entropy", mean, {logits}, rule);
}

}  // namespace hew::ag
