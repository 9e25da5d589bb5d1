#pragma once

#include <optional>

#include "optim/optimizer.h"

namespace hew::optim {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  std::optional<DType> moments = std::nullopt;  // bfloat16, or that of the weights
};

/// AdamW (kernels::adamw), moments "m" and "v". Only parameters with weight_decay set decay; each
/// block corrects its bias by its own age. All parameters have one dtype.
class AdamW final : public Optimizer {
 public:
  /// The largest decay of moments in bfloat16: above 1 − 2^−8 they would no longer decay at all.
  static constexpr double kMaxBFloat16Beta = 0.99;

  /// Throws ConfigError for moments in bfloat16 with a larger beta.
  AdamW(std::vector<ag::Parameter*> parameters, const AdamWOptions& options);

 protected:
  void update(std::span<const Item> items, double lr, const ConstView& grad_scale) override;

 private:
  AdamWOptions options_;
};

}  // namespace hew::optim
