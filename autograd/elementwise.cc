#include "autograd/elementwise.h"

#include "kernels/elementwise.h"

namespace hew::ag {
namespace {

std::vector<Tensor> pass_to_both(const Tensor& dy, const std::vector<bool>& /*needs*/) {
  return {dy, dy};
}

Tensor product(const Tensor& a, const Tensor& b) {
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.stream());
  kernels::multiply(a, b, y, a.stream());
  return y;
}

Tensor scaled(const Tensor& x, double factor) {
  Tensor y = x.clone();
  kernels::scale(factor, y, y.stream());
  return y;
}

}  // namespace

Variable add(const Variable& a, const Variable& b) {
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.stream());
  kernels::add(a.value(), b.value(), y, a.stream());
  return record("add", y, {a, b}, pass_to_both);
}

Variable add_broadcast(const Variable& x, const Variable& b) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  kernels::add_broadcast(x.value(), b.value(), y, x.stream());
  return record("add_broadcast", y, {x, b}, pass_to_both);
}

Variable multiply(const Variable& a, const Variable& b) {
  return record("multiply", product(a.value(), b.value()), {a, b},
                [a = a.value(), b = b.value()](const Tensor& dy, const std::vector<bool>& needs) {
                  return std::vector<Tensor>{needs[0] ? product(dy, b) : Tensor(),
                                             needs[1] ? product(dy, a) : Tensor()};
                });
}

Variable scale(const Variable& x, double factor) {
  return record("scale", scaled(x.value(), factor), {x},
                [factor](const Tensor& dy, const std::vector<bool>&) {
                  return std::vector<Tensor>{scaled(dy, factor)};
                });
}

}  // namespace hew::ag
