#include "autograd/feed_forward.h"

#include "autograd/linear_gradients.h"
#include "core/error.h"
#include "kernels/linear.h"

namespace hew::ag {
namespace {

enum Input : std::size_t { kX, kUp, kUpBias, kDown, kDownBias };

ConstView view_or_null(const Variable& v) {
  return v ? v.value().view() : ConstView{};
}

// What the first product leaves for the second and for the backward pass.
struct Hidden {
  Tensor pre;  // [M, F], before the activation
  Tensor h;    // [M, F], after it
};

Hidden forward_up(const FeedForwardArgs& args) {
  const Tensor& x = args.x.value();
  const Shape shape{x.size(0), args.up.size(0)};
  const bool taped = args.x.requires_grad() || args.up.requires_grad() ||
                     args.up_bias.requires_grad() || args.down.requires_grad() ||
                     args.down_bias.requires_grad();
  Hidden out{.pre = taped ? Tensor::empty(shape, x.dtype(), x.stream()) : Tensor(),
             .h = Tensor::empty(shape, x.dtype(), x.stream())};
  kernels::linear_forward({.x = x,
                           .w = args.up.value(),
                           .bias = view_or_null(args.up_bias),
                           .activation = args.activation,
                           .y = out.h,
                           .pre = out.pre},
                          x.stream());
  return out;
}

}  // namespace

Variable feed_forward(const FeedForwardArgs& args) {
  const auto& [x, up, up_bias, down, down_bias, kind, remake] = args;
  require<ShapeError>(x.shape().rank() == 2 && up.shape().rank() == 2 && down.shape().rank() == 2 &&
                          x.size(1) == up.size(1) && up.size(0) == down.size(1),
                      "[feed_forward] x {}, up {} and down {} are not [M, C], [F, C] and [C', F]",
                      to_string(x.shape()), to_string(up.shape()), to_string(down.shape()));
  Hidden hidden = forward_up(args);
  Tensor y = Tensor::empty({x.size(0), down.size(0)}, x.dtype(), x.stream());
  kernels::linear_forward(
      {.x = hidden.h, .w = down.value(), .bias = view_or_null(down_bias), .y = y}, x.stream());
  if (remake)
    hidden.h = Tensor();
  // A rule runs once: where the activation is made again, it takes its input's memory.
  auto rule = [x = Saved(x), up = up.value(), down = down.value(), hidden,
               activation = args.activation](const Tensor& dy, Needs& needs) {
    const Tensor& pre = hidden.pre;
    const Tensor h = hidden.h.defined() ? hidden.h : pre;
    Tensor dpre = Tensor::empty(pre.shape(), pre.dtype(), pre.stream());
    Tensor dbias = needs[kUpBias]
                       ? Tensor::empty({up.size(0)}, accumulator_of(pre.dtype()), pre.stream())
                       : Tensor();
    kernels::linear_input_gradient({.dy = dy,
                                    .w = down,
                                    .dx = dpre,
                                    .activation = activation,
                                    .pre = pre,
                                    .dbias = dbias,
                                    .activated = hidden.h.defined() ? View{} : Tensor(pre).view()},
                                   dy.stream());
    std::vector<Tensor> grads(needs.size());
    const auto of_down = linear_weight_gradients(dy, Saved(Variable(h)), needs,
                                                 {.weight = kDown, .bias = kDownBias});
    grads[kDown] = of_down.dw;
    grads[kDownBias] = of_down.dbias;
    grads[kUpBias] = dbias;
    grads[kX] = linear_input_gradient(dpre, up, needs, kX);
    grads[kUp] = linear_weight_gradients(dpre, x, needs, {.weight = kUp, .bias = needs.size()}).dw;
    return grads;
  };
  return record("feed_forward", y, {x, up, up_bias, down, down_bias}, std::move(rule));
}

}  // namespace hew::ag
