#include "autograd/embedding.h"

#include "core/error.h"
#include "kernels/embedding.h"

namespace hew::ag {

Variable embedding(const Tensor& ids, const Variable& table) {
  require<ShapeError>(table.shape().rank() == 2, "[embedding] table has shape {}, expected [V, C]",
                      to_string(table.shape()));
  std::vector<std::int64_t> extents(ids.shape().begin(), ids.shape().end());
  extents.push_back(table.size(1));
  Tensor y = Tensor::empty(Shape(extents), table.dtype(), table.stream());
  kernels::embedding_forward(ids, table.value(), y, table.stream());
  return record("embedding", y, {table}, [ids, shape = table.shape()](const Tensor& dy, Needs&) {
    Tensor dtable = Tensor::empty(shape, dy.dtype(), dy.stream());
    kernels::embedding_backward(ids, dy, dtable, dy.stream());
    return std::vector<Tensor>{dtable};
  });
}

}  // namespace hew::ag
