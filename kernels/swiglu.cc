#include "kernels/swiglu.h"

namespace hew::kernels {

void swiglu_forward(const ConstView& gate, const ConstView& up, const View& y,
                    const Stream& stream) {
  require_fits("swiglu", "up", up, gate.shape, gate);
  require_fits("swiglu", "y", y, gate.shape, gate);
  dispatch("swiglu", gate.device, stream, gate.dtype,
           [&]<class T>(auto backend) { swiglu_forward<T>(backend, gate, up, y); });
}

void swiglu_backward(const SwigluBackward& args, const Stream& stream) {
  require_fits("swiglu_backward", "up", args.up, args.gate.shape, args.gate);
  require_fits("swiglu_backward", "dy", args.dy, args.gate.shape, args.gate);
  require_fits("swiglu_backward", "dgate", args.dgate, args.gate.shape, args.gate);
  require_fits("swiglu_backward", "dup", args.dup, args.gate.shape, args.gate);
  dispatch("swiglu_backward", args.gate.device, stream, args.gate.dtype,
           [&]<class T>(auto backend) { swiglu_backward<T>(backend, args); });
}

}  // namespace hew::kernels
