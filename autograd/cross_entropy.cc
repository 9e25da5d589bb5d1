#include "autograd/cross_entropy.h"

#include "kernels/cross_entropy.h"

namespace hew::ag {

Variable cross_entropy(const Variable& logits, const Tensor& targets, double scale) {
  const Stream& stream = logits.stream();
  Tensor losses = Tensor::empty(targets.shape(), logits.dtype(), stream);
  Tensor lse = Tensor::empty(targets.shape(), logits.dtype(), stream);
  Tensor mean = Tensor::empty({}, logits.dtype(), stream);
  Tensor weight = Tensor::empty({}, logits.dtype(), stream);
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
