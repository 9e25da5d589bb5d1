#include "sparsity/sparse_feed_forward.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/bsr_mlp.h"
#include "sparsity/sparse_products.h"

namespace hew::sparsity {
namespace {

enum Input : std::size_t { kX, kUp, kUpProbe, kUpBias, kDown, kDownProbe, kDownBias };

// What the backward pass needs.
struct Kept {
  ag::Saved x;
  ag::Saved h;  // [M, F]
  Tensor pre;   // [M, F], h before the activation
  KeptLayer up;
  KeptLayer down;
  kernels::Activation activation;
};

// d = ∂L/∂pre, and Σ_m d[m, :] where up's bias wants it.
struct HiddenGradient {
  Tensor d;
  Tensor dbias = {};
};

HiddenGradient hidden_gradient(const Kept& kept, const Tensor& dy, bool needs_bias) {
  const Tensor& pre = kept.pre;
  HiddenGradient out{.d = Tensor::empty(pre.shape(), pre.dtype(), pre.stream())};
  if (needs_bias)
    out.dbias = Tensor::empty({pre.size(1)}, accumulator_of(pre.dtype()), pre.stream());
  kernels::bsr_input_gradient({.dy = dy,
                               .values = kept.down.values,
                               .index = kept.down.pattern->index(),
                               .dx = out.d,
                               .activation = kept.activation,
                               .pre = pre,
                               .dbias = needs_bias ? View(out.dbias) : View{},
                               .folded = kept.down.folded.get()},
                              pre.stream());
  return out;
}

std::vector<Tensor> gradients(const Kept& kept, const Tensor& dy, ag::Needs& needs) {
  std::vector<Tensor> out(needs.size());
  const auto [d, dbias] = hidden_gradient(kept, dy, needs[kUpBias]);
  Beside beside(d.stream());
  const auto of_down = sparse_weight_gradients(dy, kept.h, *kept.down.pattern, needs,
                                               {.values = kDown, .probe = kDownProbe}, beside);
  out[kDown] = of_down.values;
  out[kDownProbe] = of_down.probe;
  if (needs[kDownBias])
    out[kDownBias] = sum_of_tokens(dy);
  out[kUpBias] = dbias;
  const auto of_up = sparse_weight_gradients(d, kept.x, *kept.up.pattern, needs,
                                             {.values = kUp, .probe = kUpProbe}, beside);
  out[kUp] = of_up.values;
  out[kUpProbe] = of_up.probe;
  if (needs[kX])
    out[kX] = kept.up.input_gradient(d);
  return out;
}

ag::Variable inference(const SparseFeedForwardArgs& args) {
  const auto& [x, up, down, activation, training] = args;
  const auto bias_of = [](const SparseLayer& layer) {
    return layer.bias ? layer.bias.value().view() : ConstView{};
  };
  Tensor y = Tensor::empty({x.size(0), down.pattern->grid().rows}, x.dtype(), x.stream());
  kernels::bsr_mlp_forward(
      {.x = x.value(),
       .up_values = up.values.value(),
       .up = up.pattern->index(),
       .up_bias = bias_of(up),
       .activation = activation,
       .down_values = down.values.value(),
       .down = down.pattern->index(),
       .down_bias = bias_of(down),
       .schedule = x.dtype() == DType::kBFloat16 ? up.pattern->mlp_schedule(down.pattern) : nullptr,
       .up_folded = up.folded.get(),
       .down_folded = down.folded.get(),
       .y = y},
      x.stream());
  return ag::Variable(y);
}

}  // namespace

ag::Variable sparse_feed_forward(const SparseFeedForwardArgs& args) {
  const auto& [x, up, down, activation, training] = args;
  require<Error>(activation != kernels::Activation::kNone,
                 "[sparse_feed_forward] no activation between up and down");
  const std::vector<ag::Variable> inputs{x,           up.values,  up.probe, up.bias,
                                         down.values, down.probe, down.bias};
  const bool taped = std::any_of(inputs.begin(), inputs.end(),
                                 [](const ag::Variable& v) { return v.requires_grad(); });
  if (!training && !taped)
    return inference(args);
  SparseForwardArgs activated = product_of(x.value(), up);
  activated.activation = activation;
  activated.keep_pre = taped;
  const SparseForward hidden = sparse_forward(activated);
  const SparseForward out = sparse_forward(product_of(hidden.y, down));
  auto rule = [kept = Kept{.x = ag::Saved(x),
                           .h = ag::Saved(ag::Variable(hidden.y)),
                           .pre = hidden.pre,
                           .up = KeptLayer(up),
                           .down = KeptLayer(down),
                           .activation = activation}](const Tensor& dy, ag::Needs& needs) {
    return gradients(kept, dy, needs);
  };
  return ag::record("sparse_feed_forward", out.y, inputs, std::move(rule));
}

}  // namespace hew::sparsity
