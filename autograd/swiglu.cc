#include "autograd/swiglu.h"

#include "kernels/swiglu.h"

namespace hew::ag {

Variable swiglu(const Variable& gate, const Variable& up) {
  Tensor y = Tensor::empty(gate.shape(), gate.dtype(), gate.stream());
  kernels::swiglu_forward(gate.value(), up.value(), y, gate.stream());
  return record("swiglu", y, {gate, up},
                [gate = gate.value(), up = up.value()](const Tensor& dy, Needs&) {
                  Tensor dgate = Tensor::empty(dy.shape(), dy.dtype(), dy.stream());
                  Tensor dup = Tensor::empty(dy.shape(), dy.dtype(), dy.stream());
                  kernels::swiglu_backward(
                      {.gate = gate, .up = up, .dy = dy, .dgate = dgate, .dup = dup}, dy.stream());
                  return std::vector<Tensor>{dgate, dup};
                });
}

}  // namespace hew::ag
