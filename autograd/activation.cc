#include "autograd/activation.h"

namespace hew::ag {

Variable activation(const Variable& x, kernels::Activation kind) {
  if (kind == kernels::Activation::kNone)
    return x;
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  kernels::activation_forward(kind, x.value(), y, x.stream());
  return record("activation", y, {x}, [kind, x = x.value()](const Tensor& dy, Needs&) {
    Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.stream());
    kernels::activation_backward(kind, x, dy, dx, dy.stream());
    return std::vector<Tensor>{dx};
  });
}

}  // namespace hew::ag
