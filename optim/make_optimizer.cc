#include "optim/make_optimizer.h"

#include "optim/adamw.h"
#include "optim/sgd.h"

namespace hew::optim {

std::unique_ptr<Optimizer> make_optimizer(const OptimConfig& config,
                                          std::vector<ag::Parameter*> parameters) {
  if (config.kind == OptimizerKind::kSgd) {
    return std::make_unique<Sgd>(
        std::move(parameters),
        SgdOptions{.momentum = config.momentum, .weight_decay = config.weight_decay});
  }
  AdamWOptions options{.beta1 = config.betas[0],
                       .beta2 = config.betas[1],
                       .eps = config.eps,
                       .weight_decay = config.weight_decay,
                       .moments = {}};
  if (config.moments == MomentFormat::kBFloat16)
    options.moments = DType::kBFloat16;
  return std::make_unique<AdamW>(std::move(parameters), options);
}

}  // namespace hew::optim
