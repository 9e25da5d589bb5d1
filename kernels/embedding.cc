#include "kernels/embedding.h"

#include <vector>

namespace hew::kernels {
namespace {

void check(std::string_view op, const ConstView& ids, const ConstView& table, const ConstView& rows,
           DType table_dtype) {
  require<ShapeError>(table.shape.rank() == 2, "[{}] table has shape {}, expected [V, C]", op,
                      to_string(table.shape));
  require<DtypeError>(ids.dtype == DType::kInt32, "[{}] ids are {}, expected int32", op,
                      name_of(ids.dtype));
  require_device(op, "ids", ids, table);
  std::vector<std::int64_t> extents(ids.shape.begin(), ids.shape.end());
  extents.push_back(table.shape[1]);
  require_shape(op, "rows", rows, Shape(extents));
  require_device(op, "rows", rows, table);
  require_dtype(op, "table", table, table_dtype);
}

}  // namespace

void embedding_forward(const ConstView& ids, const ConstView& table, const View& y,
                       const Stream& stream) {
  check("embedding", ids, table, y, y.dtype);
  dispatch("embedding", table.device, stream, table.dtype,
           [&]<class T>(auto backend) { embedding_forward<T>(backend, ids, table, y); });
}

void embedding_backward(const ConstView& ids, const ConstView& dy, const View& dtable,
                        bool accumulate, const Stream& stream) {
  check("embedding_backward", ids, dtable, dy, accumulator_of(dy.dtype));
  dispatch("embedding_backward", dy.device, stream, dy.dtype, [&]<class T>(auto backend) {
    embedding_backward<T>(backend, ids, dy, dtable, accumulate);
  });
}

}  // namespace hew::kernels
