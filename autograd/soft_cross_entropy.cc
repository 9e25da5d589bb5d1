#include "autograd/soft_cross_entropy.h"

#include "core/error.h"
#include "kernels/soft_cross_entropy.h"

namespace hew::ag {

Variable soft_cross_entropy(const Variable& logits, const Tensor& targets,
                            const SoftCrossEntropyOptions& options) {
  require<ShapeError>(logits.shape().rank() == 2,
                      "[soft_cross_entropy] logits have shape {}, expected [M, V]",
                      to_string(logits.shape()));
  const Stream& stream = logits.stream();
  auto sums = [&](const Shape& shape) {
    return Tensor::empty(shape, accumulator_of(logits.dtype()), stream);
  };
  Tensor losses = sums({logits.size(0)});
  Tensor lse = sums({logits.size(0)});
  Tensor mass = sums({logits.size(0)});
  Tensor mean = sums({});
  kernels::soft_cross_entropy({.logits = logits.value(),
                               .targets = targets,
                               .smoothing = options.smoothing,
                               .scale = options.scale,
                               .losses = losses,
                               .lse = lse,
                               .mass = mass,
                               .mean = mean},
                              stream);
  auto rule = [logits = logits.value(), targets, lse, mass, options](const Tensor& dmean, Needs&) {
    Tensor dlogits = Tensor::empty(logits.shape(), logits.dtype(), logits.stream());
    kernels::soft_cross_entropy_backward({.logits = logits,
                                          .targets = targets,
                                          .lse = lse,
                                          .mass = mass,
                                          .dmean = dmean,
                                          .smoothing = options.smoothing,
                                          .scale = options.scale,
                                          .dlogits = dlogits},
                                         dmean.stream());
    return std::vector<Tensor>{dlogits};
  };
  return record("soft_cross_entropy", mean, {logits}, rule);
}

}  // namespace hew::ag
