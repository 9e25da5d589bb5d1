#pragma once

#include <memory>

#include "optim/config.h"
#include "optim/optimizer.h"

namespace hew::optim {

/// The optimizer a recipe asks for, over these parameters.
std::unique_ptr<Optimizer> make_optimizer(const OptimConfig& config,
                                          std::vector<ag::Parameter*> parameters);

}  // namespace hew::optim
