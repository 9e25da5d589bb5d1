#pragma once

#include "optim/optimizer.h"

namespace hew::optim {

struct SgdOptions {
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
};

/// SGD (kernels::sgd), with a moment "momentum" unless momentum is 0. Only parameters with
/// weight_decay set decay; a grown block starts with an empty buffer.
/// All parameters have one dtype.
class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<ag::Parameter*> parameters, const SgdOptions& options);

 protected:
  void update(std::span<const Item> items, double lr, const ConstView& grad_scale) override;

 private:
  SgdOptions options_;
};

}  // namespace hew::optim
