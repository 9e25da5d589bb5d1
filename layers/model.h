#pragma once

#include <vector>

#include "autograd/parameter.h"
#include "layers/config.h"
#include "sparsity/linear_weight.h"

namespace hew::layers {

/// A network with named parameters: all that training, sparsity, checkpoints and export need to
/// know of one. What goes in and comes out is the families' own business.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  /// All parameters by walking the layers, in a fixed order; pointers stay valid with the model.
  virtual std::vector<ag::Parameter*> parameters() = 0;
  /// The linear weights that sparsity may select by name, in the same order.
  virtual std::vector<sparsity::LinearWeight*> linear_weights() = 0;

 protected:
  Model() = default;
  Model(const Model&) = default;
  Model& operator=(const Model&) = default;
  Model(Model&&) = default;
  Model& operator=(Model&&) = default;
};

}  // namespace hew::layers
