#include "autograd/embedding.h"

#include "core/beside.h"
#include "core/error.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"

namespace hew::ag {
namespace {

// The gradient goes by groups of ids, which can be made as soon as there are ids: beside the
// forward pass, so that no kernel of the backward pass waits for it.
class GroupsBeside {
 public:
  GroupsBeside(const Tensor& ids, std::int64_t rows, const Stream& stream) : beside_(stream) {
    groups_ = kernels::group_ids(ids, rows, beside_.begin());
  }
  const kernels::IdGroups& get() {
    beside_.join();
    return groups_;
  }

 private:
  kernels::IdGroups groups_;
  Beside beside_;
};

}  // namespace

Variable embedding(const Tensor& ids, const Variable& table) {
  require<ShapeError>(table.shape().rank() == 2, "[embedding] table has shape {}, expected [V, C]",
                      to_string(table.shape()));
  std::vector<std::int64_t> extents(ids.shape().begin(), ids.shape().end());
  extents.push_back(table.size(1));
  Tensor y = Tensor::empty(Shape(extents), table.dtype(), table.stream());
  std::shared_ptr<GroupsBeside> groups;
  if (table.requires_grad())
    groups = std::make_shared<GroupsBeside>(ids, table.size(0), table.stream());
  kernels::embedding_forward(ids, table.value(), y, table.stream());
  return record("embedding", y, {table},
                [groups, shape = table.shape()](const Tensor& dy, Needs& needs) {
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
                  kernels::embedding_backward(groups->get(), dy, dtable, accumulate, dy.stream());
                  return std::vector<Tensor>{dtable};
                });
}

}  // namespace hew::ag
