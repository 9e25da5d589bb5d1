#include "autograd/attention.h"

#include "core/error.h"

namespace hew::ag {

Variable attention(const Variable& q, const Variable& k, const Variable& v,
                   const kernels::AttentionOptions& options) {
  require<ShapeError>(q.shape().rank() == 4, "[attention] q has shape {}, expected [B, Tq, H, D]",
                      to_string(q.shape()));
  Tensor y = Tensor::empty(q.shape(), q.dtype(), q.stream());
  Tensor lse =
      Tensor::empty({q.size(0), q.size(2), q.size(1)}, accumulator_of(q.dtype()), q.stream());
  kernels::attention_forward(
      {.q = q.value(), .k = k.value(), .v = v.value(), .options = options, .y = y, .lse = lse},
      q.stream());
  auto rule = [q = q.value(), k = k.value(), v = v.value(), y, lse, options](const Tensor& dy,
                                                                             Needs&) {
    Tensor dq = Tensor::empty(q.shape(), q.dtype(), q.stream());
    Tensor dk = Tensor::empty(k.shape(), k.dtype(), k.stream());
    Tensor dv = Tensor::empty(v.shape(), v.dtype(), v.stream());
    kernels::attention_backward({.q = q,
                                 .k = k,
                                 .v = v,
                                 .y = y,
                                 .lse = lse,
                                 .dy = dy,
                                 .options = options,
                                 .dq = dq,
                                 .dk = dk,
                                 .dv = dv},
                                dy.stream());
    return std::vector<Tensor>{dq, dk, dv};
  };
  return record("attention", y, {q, k, v}, rule);
}

}  // namespace hew::ag
