#include "sparsity/sparse_linear.h"

#include <algorithm>
#include <initializer_list>
#include <tuple>

#include "autograd/linear_gradients.h"
#include "kernels/blocks.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew::sparsity {
namespace {

using kernels::Activation;

struct Product {
  Tensor y;         // [M, N]
  Tensor pre = {};  // [M, N]; undefined without activation or tape
};

ConstView view_or_null(const ag::Variable& v) {
  return v.defined() ? ConstView(v.value()) : ConstView{};
}

bool taped(std::initializer_list<ag::Variable> inputs) {
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const ag::Variable& v) { return v.requires_grad(); });
}

struct ForwardArgs {
  const Tensor& x;
  const Tensor& values;
  const ag::Variable& bias;
  const BsrPattern& pattern;
  Activation activation;
  bool taped;
};

Product forward(const ForwardArgs& args) {
  const auto& [x, values, bias, pattern, activation, taped] = args;
  const Shape shape{x.size(0), pattern.grid().rows};
  Product out{.y = Tensor::empty(shape, x.dtype(), x.stream())};
  if (taped && activation != Activation::kNone)
    out.pre = Tensor::empty(shape, x.dtype(), x.stream());
  kernels::bsr_forward({.x = x,
                        .values = values,
                        .index = pattern.index(),
                        .bias = view_or_null(bias),
                        .activation = activation,
                        .y = out.y,
                        .pre = out.pre.defined() ? View(out.pre) : View{}},
                       x.stream());
  return out;
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

Tensor input_gradient(const Tensor& d, const Tensor& values, const BsrPattern& pattern) {
  Tensor dx = Tensor::empty({d.size(0), pattern.grid().cols}, d.dtype(), d.stream());
  kernels::bsr_input_gradient({.dy = d, .values = values, .index = pattern.index(), .dx = dx},
                              d.stream());
  return dx;
}

Shape values_shape(const BsrPattern& pattern) {
  return {pattern.nnzb(), pattern.grid().block, pattern.grid().block};
}

Tensor live_gradient(const Tensor& d, const Tensor& x, const BsrPattern& pattern,
                     ag::SumTarget to) {
  kernels::bsr_weight_gradient(
      {.dy = d, .x = x, .index = pattern.index(), .dvalues = to.sum, .accumulate = to.accumulate},
      d.stream());
  return to.sum;
}

Tensor dense_gradient(const Tensor& d, const Tensor& x) {
  Tensor g = Tensor::empty({d.size(1), x.size(1)}, accumulator_of(d.dtype()), d.stream());
  kernels::linear_weight_gradient({.dy = d, .x = x, .dw = g}, d.stream());
  return g;
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
  const Product out = forward({.x = args.x.value(),
                               .values = args.values.value(),
                               .bias = args.bias,
                               .pattern = *args.pattern,
                               .activation = args.activation,
                               .taped = taped({args.x, args.values, args.probe, args.bias})});
  auto rule = [x = ag::Saved(args.x), values = args.values.value(), pattern = args.pattern,
               activation = args.activation, pre = out.pre](const Tensor& dy, ag::Needs& needs) {
    const auto [needs_x, needs_values, needs_probe, needs_bias] =
        std::tuple(needs[0], needs[1], needs[2], needs[3]);
    const auto [d, dbias] = through_activation(activation, pre, dy, needs_bias);
    std::vector<Tensor> grads(4);
    if (needs_x)
      grads[0] = input_gradient(d, values, *pattern);
    if (needs_probe)
      grads[2] = dense_gradient(d, x.get());
    if (needs_values) {
      grads[1] = needs_probe ? gather(grads[2], *pattern)
                             : live_gradient(d, x.get(), *pattern,
                                             ag::sum_target(needs, 1, values_shape(*pattern),
                                                            accumulator_of(d.dtype()), d.stream()));
    }
    grads[3] = dbias;
    return grads;
  };
  return ag::record("sparse_linear", out.y, {args.x, args.values, args.probe, args.bias},
                    std::move(rule));
}

ag::Variable masked_linear(const MaskedLinearArgs& args) {
  const Tensor values = cast(gather(args.weight.value(), *args.pattern), args.x.dtype());
  const Product out =
      forward({.x = args.x.value(),
               .values = values,
               .bias = args.bias,
               .pattern = *args.pattern,
               .activation = args.activation,
               .taped = taped({args.x, args.weight, args.scores, args.probe, args.bias})});
  auto rule = [x = ag::Saved(args.x), weight = args.weight.value(), values, pattern = args.pattern,
               activation = args.activation, pre = out.pre](const Tensor& dy, ag::Needs& needs) {
    const auto [needs_x, needs_weight, needs_scores, needs_probe, needs_bias] =
        std::tuple(needs[0], needs[1], needs[2], needs[3], needs[4]);
    const auto [d, dbias] = through_activation(activation, pre, dy, needs_bias);
    std::vector<Tensor> grads(5);
    if (needs_x)
      grads[0] = input_gradient(d, values, *pattern);
    Tensor g;
    if (needs_scores || needs_probe)
      g = dense_gradient(d, x.get());
    if (needs_weight) {
      const Tensor live =
          g.defined()
              ? gather(g, *pattern)
              : live_gradient(d, x.get(), *pattern,
                              {.sum = Tensor::empty(values_shape(*pattern),
                                                    accumulator_of(d.dtype()), d.stream())});
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
