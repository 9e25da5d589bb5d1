#pragma once

#include "optim/optimizer.h"

namespace hew::optim {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
};

/// AdamW (kernels::adamw), moments "m" and "v". Only parameters with weight_decay set decay; each
/// block corrects its bias by its own age.
class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<ag::Parameter*> parameters, const AdamWOptions& options);

 protected:
  void update(ag::Parameter& parameter, State& state, double lr, double grad_scale) override;

 private:
  AdamWOptions options_;
};

}  // namespace hew::optim
