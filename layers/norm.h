#pragma once

#include <string>
#include <vector>

#include "autograd/forward_context.h"
#include "autograd/norm.h"
#include "autograd/parameter.h"
#include "layers/initializer.h"

namespace hew::layers {

enum class NormKind : std::uint8_t { kLayerNorm, kRmsNorm };

/// LayerNorm (weight, and bias if wanted) or RMSNorm (weight) over the last dimension of [M, C].
class Norm {
 public:
  struct Options {
    NormKind kind = NormKind::kLayerNorm;
    std::int64_t width = 0;
    double eps = 1e-5;
    bool bias = true;  // LayerNorm only
  };

  Norm(const std::string& name, const Options& options, const Initializer& init);

  ag::Variable forward(const ag::Variable& x, const ag::ForwardContext& context) const;
  /// x + branch and its norm, in one pass; branch may be undefined.
  ag::AddedNorm forward(const ag::Variable& x, const ag::Variable& branch,
                        const ag::ForwardContext& context) const;
  void collect_parameters(std::vector<ag::Parameter*>& out);

 private:
  NormKind kind_;
  double eps_;
  ag::Parameter weight_;
  ag::Parameter bias_;  // undefined without bias
};

}  // namespace hew::layers
