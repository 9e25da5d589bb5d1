#include "autograd/rotary.h"

#include "kernels/rotary.h"

namespace hew::ag {

Variable rotary(const Variable& x, double theta, std::int64_t offset) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  kernels::rotary({.x = x.value(), .theta = theta, .offset = offset, .inverse = false, .y = y},
                  x.stream());
  return record("rotary", y, {x}, [theta, offset](const Tensor& dy, Needs&) {
    Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.stream());
    kernels::rotary({.x = dy, .theta = theta, .offset = offset, .inverse = true, .y = dx},
                    dy.stream());
    return std::vector<Tensor>{dx};
  });
}

}  // namespace hew::ag
