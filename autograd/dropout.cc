#include "autograd/dropout.h"

namespace hew::ag {
namespace {

Tensor dropped(const Tensor& x, const kernels::DropoutOptions& options) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  kernels::dropout(options, x, y, x.stream());
  return y;
}

}  // namespace

Variable dropout(const Variable& x, const kernels::DropoutOptions& options) {
  if (options.p == 0)
    return x;
  return record("dropout", dropped(x.value(), options), {x}, [options](const Tensor& dy, Needs&) {
    return std::vector<Tensor>{dropped(dy, options)};
  });
}

}  // namespace hew::ag
