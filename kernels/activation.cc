#include "kernels/activation.h"

#include <array>

namespace hew::kernels {
namespace {

constexpr std::array<std::string_view, 5> kNames{"none", "relu", "gelu", "gelu_tanh", "silu"};

}  // namespace

Activation parse_activation(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name)
      return static_cast<Activation>(i);
  }
  throw ConfigError(
      fmt::format("[activation] '{}' is not one of none, relu, gelu, gelu_tanh, silu", name));
}

std::string_view name_of(Activation activation) {
  return kNames[static_cast<std::size_t>(activation)];
}

void activation_forward(Activation activation, const ConstView& x, const View& y,
                        const Stream& stream) {
  require_fits("activation_forward", "y", y, x.shape, x);
  dispatch("activation_forward", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { activation_forward<T>(backend, activation, x, y); });
}

void activation_backward(const ActivationBackward& args, const Stream& stream) {
  constexpr std::string_view kOp = "activation_backward";
  require_fits(kOp, "dy", args.dy, args.x.shape, args.x);
  require_fits(kOp, "dx", args.dx, args.x.shape, args.x);
  if (args.y)
    require_fits(kOp, "y", args.y, args.x.shape, args.x);
  if (args.dbias) {
    require<ShapeError>(args.x.shape.rank() == 2,
                        "[activation_backward] x has shape {}, expected [M, N] for dbias",
                        to_string(args.x.shape));
    require_sums(kOp, "dbias", args.dbias, {args.x.shape[1]}, args.x);
  }
  dispatch(kOp, args.x.device, stream, args.x.dtype,
           [&]<class T>(auto backend) { activation_backward<T>(backend, args); });
}

}  // namespace hew::kernels
