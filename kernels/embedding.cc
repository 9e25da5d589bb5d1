#include "kernels/embedding.h"

#include <vector>

namespace hew::kernels {
namespace {

void check(std::string_view op, const ConstView& ids, const ConstView& table,
           const ConstView& rows) {
  require<ShapeError>(table.shape.rank() == 2, "[{}] table has shape {}, expected [V, C]", op,
                      to_string(table.shape));
  require<DtypeError>(ids.dtype == DType::kInt32, "[{}] ids are {}, expected int32", op,
                      name_of(ids.dtype));
  require_device(op, "ids", ids, table);
  std::vector<std::int64_t> extents(ids.shape.begin(), ids.shape.end());
  extents.push_back(table.shape[1]);
  require_fits(op, "output", rows, Shape(extents), table);
}

}  // namespace

void embedding_forward(const ConstView& ids, const ConstView& table, const View& y,
                       const Stream& /*stream*/) {
  check("embedding", ids, table, y);
  dispatch("embedding", table.device, table.dtype,
           [&]<class T>(auto backend) { embedding_forward<T>(backend, ids, table, y); });
}

void embedding_backward(const ConstView& ids, const ConstView& dy, const View& dtable,
                        const Stream& /*stream*/) {
  check("embedding_backward", ids, dtable, dy);
  dispatch("embedding_backward", dtable.device, dtable.dtype,
           [&]<class T>(auto backend) { embedding_backward<T>(backend, ids, dy, dtable); });
}

}  // namespace hew::kernels
