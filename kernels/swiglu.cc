#include "kernels/swiglu.h"

namespace hew::kernels {
namespace {

void require_same(std::string_view op, std::string_view what, const ConstView& view,
                  const ConstView& gate) {
  require_shape(op, what, view, gate.shape);
  require_like(op, what, view, gate);
}

}  // namespace

void swiglu_forward(const ConstView& gate, const ConstView& up, const View& y,
                    const Stream& /*stream*/) {
  require_same("swiglu", "up", up, gate);
  require_same("swiglu", "y", y, gate);
  dispatch("swiglu", gate.device, gate.dtype,
           [&]<class T>(auto backend) { swiglu_forward<T>(backend, gate, up, y); });
}

void swiglu_backward(const SwigluBackward& args, const Stream& /*stream*/) {
  require_same("swiglu_backward", "up", args.up, args.gate);
  require_same("swiglu_backward", "dy", args.dy, args.gate);
  require_same("swiglu_backward", "dgate", args.dgate, args.gate);
  require_same("swiglu_backward", "dup", args.dup, args.gate);
  dispatch("swiglu_backward", args.gate.device, args.gate.dtype,
           [&]<class T>(auto backend) { swiglu_backward<T>(backend, args); });
}

}  // namespace hew::kernels
