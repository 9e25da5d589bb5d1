#pragma once

#include <string>
#include <vector>

#include "autograd/forward_context.h"
#include "autograd/parameter.h"
#include "kernels/activation.h"
#include "layers/initializer.h"
#include "sparsity/linear_weight.h"

namespace hew::layers {

/// y = act(x·Wᵀ + bias), x [M, K], W [N, K] named `<name>.weight`, bias [N] named `<name>.bias`.
/// W may be dense, live blocks or a masked master: sparsity decides, the caller does not see it.
class Linear {
 public:
  struct Options {
    std::int64_t in_features = 0;
    std::int64_t out_features = 0;
    bool bias = true;
    kernels::Activation activation = kernels::Activation::kNone;
    double init_std = 0.02;
  };

  Linear(const std::string& name, const Options& options, const Initializer& init);

  ag::Variable forward(const ag::Variable& x, const ag::ForwardContext& context) const;

  sparsity::LinearWeight& weight() { return weight_; }
  /// For ops that contain this layer: how W is held, and the layer's parts.
  sparsity::Storage storage() const { return weight_.storage(); }
  ag::Variable use_weight(const ag::ForwardContext& context) const {
    return context.use(weight_.parameter());
  }
  ag::Variable use_bias(const ag::ForwardContext& context) const { return context.use(bias_); }
  sparsity::SparseLayer use_live_blocks(const ag::ForwardContext& context) const {
    return weight_.live_layer(use_bias(context), context);
  }
  kernels::Activation activation() const { return activation_; }
  void collect_parameters(std::vector<ag::Parameter*>& out);

 private:
  sparsity::LinearWeight weight_;
  ag::Parameter bias_;  // undefined without bias
  kernels::Activation activation_;
};

}  // namespace hew::layers
