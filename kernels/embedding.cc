#include "kernels/embedding.h"

namespace hew::kernels {
namespace {

void check(std::string_view op, const ConstView& ids, const ConstView& table, const ConstView& rows,
           DType table_dtype) {
  require<ShapeError>(table.shape.rank() == 2, "[{}] table has shape {}, expected [V, C]", op,
                      to_string(table.shape));
  require_dtype(op, "ids", ids, DType::kInt32);
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

IdGroups group_ids(const Tensor& ids, std::int64_t rows, const Stream& stream) {
  require_dtype("group_ids", "ids", ids, DType::kInt32);
  require<ShapeError>(rows > 0, "[group_ids] ids are of {} rows, expected at least one", rows);
  // Ids are ids: of the types to dispatch on, any one will do.
  IdGroups groups;
  dispatch("group_ids", ids.device(), stream, DType::kFloat64,
           [&]<class T>(auto backend) { groups = group_ids(backend, ids, rows); });
  return groups;
}

void embedding_backward(const IdGroups& groups, const ConstView& dy, const View& dtable,
                        bool accumulate, const Stream& stream) {
  check("embedding_backward", groups.ids, dtable, dy, accumulator_of(dy.dtype));
  require<ShapeError>(groups.rows == dtable.shape[0],
                      "[embedding_backward] groups are of {} rows, the table has {}", groups.rows,
                      dtable.shape[0]);
  dispatch("embedding_backward", dy.device, stream, dy.dtype, [&]<class T>(auto backend) {
    embedding_backward<T>(backend, groups, dy, dtable, accumulate);
  });
}

}  // namespace hew::kernels
