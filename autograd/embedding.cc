#include "autograd/embedding.h"

#include "core/error.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"

namespace hew::ag {

Variable embedding(const Tensor& ids, const Variable& table) {
  require<ShapeError>(table.shape().rank() == 2, "[embedding] table has shape {}, expected [V, C]",
                      to_string(table.shape()));
  std::vector<std::int64_t> extents(ids.shape().begin(), ids.shape().end());
  extents.push_back(table.size(1));
  Tensor y = Tensor::empty(Shape(extents), table.dtype(), table.stream());
  kernels::embedding_forward(ids, table.value(), y, table.stream());
  return record("embedding", y, {table},
                [ids, shape = table.shape()](const Tensor& dy, Needs& needs) {
                  // The table of a tied head has its gradient already: the rows that were looked up
                  // are added.
                  const Needs::Gathered gathered = needs.take(0);
                  const DType sums = accumulator_of(dy.dtype());
                  const bool accumulate = gathered.grad.defined();
                  Tensor dtable = gathered.grad;
                  if (!accumulate || !gathered.writable || dtable.dtype() != sums) {
                    dtable = Tensor::empty(shape, sums, dy.stream());
                    if (accumulate)
                      kernels::cast(gathered.grad, dtable, dy.stream());
                  }
                  kernels::embedding_backward(ids, dy, dtable, accumulate, dy.stream());
                  return std::vector<Tensor>{dtable};
                });
}

}  // namespace hew::ag
