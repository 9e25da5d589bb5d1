#include "sparsity/sparse_linear.h"

#include <algorithm>
#include <initializer_list>
#include <tuple>

#include "kernels/blocks.h"
#include "kernels/elementwise.h"
#include "kernels/folded_weight.h"
#include "sparsity/sparse_products.h"

namespace hew::sparsity {
namespace {

using kernels::Activation;

bool taped(std::initializer_list<ag::Variable> inputs) {
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const ag::Variable& v) { return v.requires_grad(); });
}

// d = ∂L/∂(x·Wᵀ + bias), and Σ_m d[m, n] where the bias wants it.
struct OuterGradient {
  Tensor d;
  Tensor dbias = {};
};

OuterGradient through_activation(Activation activation, const Tensor& pre, const Tensor& dy,
                                 bool needs_bias) {
  const Stream& stream = dy.stream();
  OuterGradient out{.d = dy};
  if (needs_bias)
    out.dbias = Tensor::empty({dy.size(1)}, accumulator_of(dy.dtype()), stream);
  if (activation != Activation::kNone) {
    out.d = Tensor::empty(dy.shape(), dy.dtype(), stream);
    kernels::activation_backward({.activation = activation,
                                  .x = pre,
                                  .dy = dy,
                                  .dx = out.d,
                                  .dbias = needs_bias ? View(out.dbias) : View{}},
                                 stream);
  } else if (needs_bias) {
    kernels::sum_leading(dy, out.dbias, stream);
  }
  return out;
}

Tensor cast(const Tensor& from, DType dtype) {
  if (from.dtype() == dtype)
    return from;
  Tensor out = Tensor::empty(from.shape(), dtype, from.stream());
  kernels::cast(from, out, out.stream());
  return out;
}

Tensor score_gradient(const Tensor& g, const Tensor& weight, const BlockGrid& grid) {
  Tensor ds = Tensor::empty({grid.block_rows(), grid.block_cols()}, g.dtype(), g.stream());
  kernels::block_dot(g, weight, grid.block, ds, g.stream());
  return ds;
}

}  // namespace

ag::Variable sparse_linear(const SparseLinearArgs& args) {
  const SparseLayer& layer = args.layer;
  SparseForwardArgs product = product_of(args.x.value(), layer);
  product.activation = args.activation;
  product.keep_pre = taped({args.x, layer.values, layer.probe, layer.bias});
  const SparseForward out = sparse_forward(product);
  auto rule = [x = ag::Saved(args.x), kept = KeptLayer(layer), activation = args.activation,
               pre = out.pre](const Tensor& dy, ag::Needs& needs) {
    const auto [d, dbias] = through_activation(activation, pre, dy, /*needs_bias=*/needs[3]);
    std::vector<Tensor> grads(4);
    Beside beside(d.stream());
    const auto of_weight =
        sparse_weight_gradients(d, x, *kept.pattern, needs, {.values = 1, .probe = 2}, beside);
    grads[1] = of_weight.values;
    grads[2] = of_weight.probe;
    if (needs[0])
      grads[0] = kept.input_gradient(d);
    grads[3] = dbias;
    return grads;
  };
  return ag::record("sparse_linear", out.y, {args.x, layer.values, layer.probe, layer.bias},
                    std::move(rule));
}

ag::Variable masked_linear(const MaskedLinearArgs& args) {
  const BlockGrid& grid = args.pattern->grid();
  const Tensor& master = args.weight.value();
  const Tensor masked = args.soft.defined() ? softened(master, args.soft, grid.block) : master;
  const Tensor values = cast(gather(masked, *args.pattern), args.x.dtype());
  const auto folded = std::make_shared<kernels::FoldedWeight>();  // values are this op's own
  const SparseForward out =
      sparse_forward({.x = args.x.value(),
                      .values = values,
                      .bias = args.bias,
                      .pattern = *args.pattern,
                      .activation = args.activation,
                      .keep_pre = taped({args.x, args.weight, args.scores, args.probe, args.bias}),
                      .folded = folded});
  auto rule = [x = ag::Saved(args.x), weight = master, values, pattern = args.pattern,
               soft = args.soft, activation = args.activation, pre = out.pre,
               folded](const Tensor& dy, ag::Needs& needs) {
    const auto [needs_x, needs_weight, needs_scores, needs_probe, needs_bias] =
        std::tuple(needs[0], needs[1], needs[2], needs[3], needs[4]);
    const auto [d, dbias] = through_activation(activation, pre, dy, needs_bias);
    std::vector<Tensor> grads(5);
    if (needs_x)
      grads[0] = sparse_input_gradient(d, values, *pattern, folded);
    Tensor g;
    if (needs_scores || needs_probe || soft.defined())
      g = dense_gradient(d, x.get());
    if (needs_weight && soft.defined()) {
      grads[1] = soft_gradient(g, weight, soft, pattern->grid());
    } else if (needs_weight) {
      const Tensor live =
          g.defined()
              ? gather(g, *pattern)
              : live_gradient(
                    d, x.get(), *pattern,
                    {.sum = Tensor::empty(values.shape(), accumulator_of(d.dtype()), d.stream())});
      grads[1] = scatter(live, *pattern);
    }
    if (needs_scores)
      grads[2] = score_gradient(g, weight, pattern->grid());
    if (needs_probe)
      grads[3] = g;
    grads[4] = dbias;
    return grads;
  };
  return ag::record("masked_linear", out.y,
                    {args.x, args.weight, args.scores, args.probe, args.bias}, std::move(rule));
}

}  // namespace hew::sparsity
