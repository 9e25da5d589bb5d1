#include "autograd/rearrange.h"

#include "core/error.h"
#include "kernels/permute.h"

namespace hew::ag {

Variable reshape(const Variable& x, const Shape& shape) {
  return record("reshape", x.value().reshape(shape), {x},
                [shape = x.shape()](const Tensor& dy, Needs&) {
                  return std::vector<Tensor>{dy.reshape(shape)};
                });
}

Variable permute(const Variable& x, const std::vector<int>& axes) {
  Tensor y = Tensor::empty(kernels::permuted(x.shape(), axes), x.dtype(), x.stream());
  kernels::permute(x.value(), axes, y, x.stream());
  std::vector<int> inverse(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    inverse[static_cast<std::size_t>(axes[i])] = static_cast<int>(i);
  }
  return record("permute", y, {x}, [inverse, shape = x.shape()](const Tensor& dy, Needs&) {
    Tensor dx = Tensor::empty(shape, dy.dtype(), dy.stream());
    kernels::permute(dy, inverse, dx, dy.stream());
    return std::vector<Tensor>{dx};
  });
}

Variable columns(const Variable& x, std::int64_t begin, std::int64_t count) {
  require<ShapeError>(
      x.shape().rank() == 2 && begin >= 0 && count >= 0 && begin + count <= x.size(1),
      "[columns] columns {} to {} of shape {}", begin, begin + count, to_string(x.shape()));
  Tensor y = Tensor::empty({x.size(0), count}, x.dtype(), x.stream());
  kernels::copy_columns({.from = x.value(), .to = y, .from_begin = begin, .count = count},
                        x.stream());
  return record("columns", y, {x}, [begin, count, shape = x.shape()](const Tensor& dy, Needs&) {
    Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.stream());
    kernels::copy_columns({.from = dy, .to = dx, .to_begin = begin, .count = count}, dy.stream());
    return std::vector<Tensor>{dx};
  });
}

}  // namespace hew::ag
