#include "autograd/elementwise.h"

#include "kernels/elementwise.h"

namespace hew::ag {
namespace {

std::vector<Tensor> pass_to_both(const Tensor& dy, Needs& /*needs*/) {
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

Variable add_rows(const Variable& x, const Variable& table, std::int64_t begin) {
  require<ShapeError>(x.shape().rank() == 3 && table.shape().rank() == 2,
                      "[add_rows] x {} and table {} are not [B, T, C] and [rows, C]",
                      to_string(x.shape()), to_string(table.shape()));
  const std::int64_t count = x.size(1);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.stream());
  kernels::add_broadcast(x.value(), table.value().rows(begin, count), y, x.stream());
  return record("add_rows", y, {x, table},
                [begin, count, shape = table.shape()](const Tensor& dy, Needs& needs) {
                  if (!needs[1])
                    return std::vector<Tensor>{dy, Tensor()};
                  const DType dtype = accumulator_of(dy.dtype());
                  Tensor dtable = count == shape[0] ? Tensor::empty(shape, dtype, dy.stream())
                                                    : Tensor::zeros(shape, dtype, dy.stream());
                  kernels::sum_leading(dy, dtable.rows(begin, count), dy.stream());
                  return std::vector<Tensor>{dy, dtable};
                });
}

Variable multiply(const Variable& a, const Variable& b) {
  return record("multiply", product(a.value(), b.value()), {a, b},
                [a = a.value(), b = b.value()](const Tensor& dy, Needs& needs) {
                  return std::vector<Tensor>{needs[0] ? product(dy, b) : Tensor(),
                                             needs[1] ? product(dy, a) : Tensor()};
                });
}

Variable scale(const Variable& x, double factor) {
  return record("scale", scaled(x.value(), factor), {x}, [factor](const Tensor& dy, Needs&) {
    return std::vector<Tensor>{scaled(dy, factor)};
  });
}

}  // namespace hew::ag
