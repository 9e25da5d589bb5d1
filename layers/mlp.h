#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/config.h"
#include "layers/linear.h"

namespace hew::layers {

/// GPT-2: down(act(up(x))). Llama: down(act(gate(x)) ⊙ up(x)) with act = SiLU. Parameters
/// `<name>.{gate,up,down}.{weight,bias}`.
class Mlp {
 public:
  Mlp(const std::string& name, const ModelConfig& config, const Initializer& init);

  /// x [M, C] → [M, C].
  ag::Variable forward(const ag::Variable& x, const ag::ForwardContext& context) const;
  void collect_parameters(std::vector<ag::Parameter*>& out);
  void collect_weights(std::vector<sparsity::LinearWeight*>& out);

 private:
  std::optional<Linear> gate_;
  Linear up_;
  Linear down_;
};

}  // namespace hew::layers
