#include "kernels/norm.h"

namespace hew::kernels {
namespace {

// Checks arguments against x: those of x's shape, of one row's shape, and what is summed.
class Checker {
 public:
  Checker(std::string_view op, const ConstView& x) : op_(op), x_(x) {
    require<ShapeError>(x.shape.rank() >= 1 && x.shape[-1] > 0,
                        "[{}] x has shape {}, expected [..., C] with C > 0", op,
                        to_string(x.shape));
  }
  void full(std::string_view what, const ConstView& view) const { check(what, view, x_.shape); }
  // A residual and the sum it makes, both or neither.
  void residual(const ConstView& residual, const ConstView& sum) const {
    require<ShapeError>(static_cast<bool>(residual) == static_cast<bool>(sum),
                        "[{}] residual is {}, sum is {}, expected both or neither", op_,
                        residual ? "given" : "empty", sum ? "given" : "empty");
    if (residual)
      full("residual", residual);
    if (sum)
      full("sum", sum);
  }
  void row(std::string_view what, const ConstView& view) const {
    check(what, view, {x_.shape[-1]});
  }
  void row_of_sums(std::string_view what, const ConstView& view) const {
    require_sums(op_, what, view, {x_.shape[-1]}, x_);
  }
  void statistic(std::string_view what, const ConstView& view) const {
    require_sums(op_, what, view, {x_.numel() / x_.shape[-1]}, x_);
  }

 private:
  void check(std::string_view what, const ConstView& view, const Shape& shape) const {
    require_fits(op_, what, view, shape, x_);
  }

  std::string_view op_;
  ConstView x_;
};

}  // namespace

void layer_norm_forward(const LayerNormForward& args, const Stream& stream) {
  const Checker check("layer_norm", args.x);
  check.row("weight", args.weight);
  if (args.bias)
    check.row("bias", args.bias);
  check.residual(args.residual, args.sum);
  check.full("y", args.y);
  check.statistic("mean", args.mean);
  check.statistic("rstd", args.rstd);
  dispatch("layer_norm", args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { layer_norm_forward<T>(backend, args); });
}

void layer_norm_backward(const LayerNormBackward& args, const Stream& stream) {
  const Checker check("layer_norm_backward", args.x);
  check.row("weight", args.weight);
  check.statistic("mean", args.mean);
  check.statistic("rstd", args.rstd);
  check.full("dy", args.dy);
  if (args.dsum)
    check.full("dsum", args.dsum);
  check.full("dx", args.dx);
  if (args.dweight)
    check.row_of_sums("dweight", args.dweight);
  if (args.dbias)
    check.row_of_sums("dbias", args.dbias);
  dispatch("layer_norm_backward", args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { layer_norm_backward<T>(backend, args); });
}

void rms_norm_forward(const RmsNormForward& args, const Stream& stream) {
  const Checker check("rms_norm", args.x);
  check.row("weight", args.weight);
  check.residual(args.residual, args.sum);
  check.full("y", args.y);
  check.statistic("rstd", args.rstd);
  dispatch("rms_norm", args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { rms_norm_forward<T>(backend, args); });
}

void rms_norm_backward(const RmsNormBackward& args, const Stream& stream) {
  const Checker check("rms_norm_backward", args.x);
  check.row("weight", args.weight);
  check.statistic("rstd", args.rstd);
  check.full("dy", args.dy);
  if (args.dsum)
    check.full("dsum", args.dsum);
  check.full("dx", args.dx);
  if (args.dweight)
    check.row_of_sums("dweight", args.dweight);
  dispatch("rms_norm_backward", args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { rms_norm_backward<T>(backend, args); });
}

}  // namespace hew::kernels
