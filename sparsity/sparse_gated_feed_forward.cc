#include "sparsity/sparse_gated_feed_forward.h"

#include <algorithm>

#include "kernels/elementwise.h"
#include "sparsity/sparse_products.h"

namespace hew::sparsity {
namespace {

enum Input : std::size_t {
  kX,
  kGate,
  kGateProbe,
  kGateBias,
  kUp,
  kUpProbe,
  kUpBias,
  kDown,
  kDownProbe,
  kDownBias
};

struct Kept {
  ag::Saved x;
  ag::Saved h;     // [M, F], silu(of_gate) ⊙ of_up
  Tensor of_gate;  // [M, F]
  Tensor of_up;    // [M, F]
  KeptLayer gate;
  KeptLayer up;
  KeptLayer down;
};

// Of the outputs of gate and up.
struct HiddenGradients {
  Tensor gate;
  Tensor up;
};

HiddenGradients hidden_gradients(const Kept& kept, const Tensor& dy) {
  const Tensor& like = kept.of_gate;
  HiddenGradients out{.gate = Tensor::empty(like.shape(), like.dtype(), like.stream()),
                      .up = Tensor::empty(like.shape(), like.dtype(), like.stream())};
  kernels::bsr_input_gradient({.dy = dy,
                               .values = kept.down.values,
                               .index = kept.down.pattern->index(),
                               .dx = out.up,
                               .gate = kept.of_gate,
                               .up = kept.of_up,
                               .dgate = out.gate,
                               .folded = kept.down.folded.get()},
                              like.stream());
  return out;
}

// Gradients of a layer's values, probe and bias, which follow each other among the inputs.
void layer_gradients(const Tensor& d, const ag::Saved& x, const KeptLayer& layer, Input values,
                     ag::Needs& needs, Beside& beside, std::vector<Tensor>& out) {
  const std::size_t first = values;
  const auto grads = sparse_weight_gradients(d, x, *layer.pattern, needs,
                                             {.values = first, .probe = first + 1}, beside);
  out[first] = grads.values;
  out[first + 1] = grads.probe;
  if (needs[first + 2])
    out[first + 2] = sum_of_tokens(d);
}

std::vector<Tensor> gradients(const Kept& kept, const Tensor& dy, ag::Needs& needs) {
  std::vector<Tensor> out(needs.size());
  const HiddenGradients d = hidden_gradients(kept, dy);
  Beside beside(dy.stream());
  layer_gradients(dy, kept.h, kept.down, kDown, needs, beside, out);
  layer_gradients(d.up, kept.x, kept.up, kUp, needs, beside, out);
  layer_gradients(d.gate, kept.x, kept.gate, kGate, needs, beside, out);
  if (needs[kX]) {
    Tensor dx = kept.up.input_gradient(d.up);
    const Tensor through_gate = kept.gate.input_gradient(d.gate);
    kernels::add(dx, through_gate, dx, dx.stream());
    out[kX] = dx;
  }
  return out;
}

}  // namespace

ag::Variable sparse_gated_feed_forward(const SparseGatedFeedForwardArgs& args) {
  const auto& [x, gate, up, down] = args;
  const std::vector<ag::Variable> inputs{x,        gate.values, gate.probe,  gate.bias,  up.values,
                                         up.probe, up.bias,     down.values, down.probe, down.bias};
  const bool taped = std::any_of(inputs.begin(), inputs.end(),
                                 [](const ag::Variable& v) { return v.requires_grad(); });
  const SparseForward of_gate = sparse_forward(product_of(x.value(), gate));
  SparseForwardArgs gated = product_of(x.value(), up);
  gated.gate = of_gate.y;
  gated.keep_pre = taped;
  const SparseForward hidden = sparse_forward(gated);
  const SparseForward out = sparse_forward(product_of(hidden.y, down));
  auto rule = [kept = Kept{.x = ag::Saved(x),
                           .h = ag::Saved(ag::Variable(hidden.y)),
                           .of_gate = of_gate.y,
                           .of_up = hidden.pre,
                           .gate = KeptLayer(gate),
                           .up = KeptLayer(up),
                           .down = KeptLayer(down)}](const Tensor& dy, ag::Needs& needs) {
    return gradients(kept, dy, needs);
  };
  return ag::record("sparse_gated_feed_forward", out.y, inputs, std::move(rule));
}

}  // namespace hew::sparsity
