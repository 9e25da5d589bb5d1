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

void activation_backward(Activation activation, const ConstView& x, const ConstView& dy,
                         const View& dx, const Stream& stream) {
  for (const auto& [what, view] : {std::pair{"dy", dy}, std::pair{"dx", ConstView(dx)}}) {
    require_fits("activation_backward", what, view, x.shape, x);
  }
  dispatch("activation_backward", x.device, stream, x.dtype,
           [&]<class T>(auto backend) { activation_backward<T>(backend, activation, x, dy, dx); });
}

}  // namespace hew::kernels
