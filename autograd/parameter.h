#pragma once

#include <string>
#include <vector>

#include "autograd/variable.h"

namespace hew::ag {

/// A trained leaf with the name that everything saves, selects and reports it by, such as
/// `blocks.3.mlp.up.weight`.
struct Parameter {
  std::string name;
  Variable var;
  bool weight_decay = false;  // matrices decay; biases, norms and positions do not
  double lr_factor = 1;       // on the learning rate of the optimizer

  const Tensor& value() const { return var.value(); }
};

}  // namespace hew::ag
