#include "kernels/elementwise.h"

#include <algorithm>

namespace hew::kernels {
namespace {

void require_tail(std::string_view op, const ConstView& x, const ConstView& tail) {
  const int extra = x.shape.rank() - tail.shape.rank();
  require<ShapeError>(
      extra >= 0 && std::equal(tail.shape.begin(), tail.shape.end(), x.shape.begin() + extra),
      "[{}] shape {} is not the tail of {}", op, to_string(tail.shape), to_string(x.shape));
}

}  // namespace

void add(const ConstView& a, const ConstView& b, const View& y, const Stream& stream) {
  require_shape("add", "b", b, a.shape);
  require_shape("add", "y", y, a.shape);
  require_like("add", "b", b, a);
  require_like("add", "y", y, a);
  dispatch("add", a.device, stream, a.dtype,
           [&]<class T>(auto backend) { add<T>(backend, a, b, y); });
}

void multiply(const ConstView& a, const ConstView& b, const View& y, const Stream& stream) {
  require_shape("multiply", "b", b, a.shape);
  require_shape("multiply", "y", y, a.shape);
  require_like("multiply", "b", b, a);
  require_like("multiply", "y", y, a);
  dispatch("multiply", a.device, stream, a.dtype,
           [&]<class T>(auto backend) { multiply<T>(backend, a, b, y); });
}

void scaled_sum(std::span<const ConstView> terms, double factor, const View& y,
                const Stream& stream) {
  require<ShapeError>(!terms.empty() && terms.size() <= kMaxTerms,
                      "[scaled_sum] {} terms, expected 1 to {}", terms.size(), kMaxTerms);
  for (const ConstView& term : terms) require_fits("scaled_sum", "a term", term, y.shape, y);
  dispatch("scaled_sum", y.device, stream, y.dtype,
           [&]<class T>(auto backend) { scaled_sum<T>(backend, terms, factor, y); });
}

void scale(double factor, const View& y, const Stream& stream) {
  dispatch("scale", y.device, stream, y.dtype,
           [&]<class T>(auto backend) { scale<T>(backend, factor, y); });
}

void scale_by(const ConstView& factor, const View& y, const Stream& stream) {
  require_sums("scale_by", "factor", factor, {}, y);
  dispatch("scale_by", y.device, stream, y.dtype,
           [&]<class T>(auto backend) { scale_by<T>(backend, factor, y); });
}

void fill(double value, const View& y, const Stream& stream) {
  dispatch("fill", y.device, stream, y.dtype,
           [&]<class T>(auto backend) { fill<T>(backend, value, y); });
}

void add_broadcast(const ConstView& x, const ConstView& b, const View& y, const Stream& stream) {
  require_tail("add_broadcast", x, b);
  require_shape("add_broadcast", "y", y, x.shape);
  require_like("add_broadcast", "b", b, x);
  require_like("add_broadcast", "y", y, x);
  dispatch("add_broadcast", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { add_broadcast<T>(backend, x, b, y); });
}

void sum_leading(const ConstView& x, const View& y, const Stream& stream) {
  require_tail("sum_leading", x, y);
  require_sums("sum_leading", "y", y, y.shape, x);
  dispatch("sum_leading", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { sum_leading<T>(backend, x, y); });
}

double sum_of_squares(const ConstView& x, const Stream& stream) {
  double sum = 0;
  dispatch("sum_of_squares", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { sum = sum_of_squares<T>(backend, x); });
  return sum;
}

void cast(const ConstView& x, const View& y, const Stream& stream) {
  require_shape("cast", "y", y, x.shape);
  require<DtypeError>(is_floating(x.dtype) && is_floating(y.dtype), "[cast] {} to {}",
                      name_of(x.dtype), name_of(y.dtype));
  require_device("cast", "y", y, x);
  dispatch("cast", x.device, stream, DType::kFloat32,
           [&]<class T>(auto backend) { cast(backend, x, y); });
}

}  // namespace hew::kernels
