#include "autograd/drop_path.h"

namespace hew::ag {
namespace {

Tensor dropped(const Tensor& x, const kernels::DropPathOptions& options) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  kernels::drop_path(options, x, y, x.stream());
  return y;
}

}  // namespace

Variable drop_path(const Variable& x, const kernels::DropPathOptions& options) {
  if (options.p == 0)
    return x;
  return record("drop_path", dropped(x.value(), options), {x}, [options](const Tensor& dy, Needs&) {
    return std::vector<Tensor>{dropped(dy, options)};
  });
}

}  // namespace hew::ag
