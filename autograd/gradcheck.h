#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace hew::ag {

/// What gradcheck found: the worst element over all inputs.
struct GradcheckResult {
  double max_relative_error = 0;  // NaN if any compared number was NaN
  std::string worst;              // "input 1 element 17: analytic …, numeric …"
};

/// Compares backward() of f with five-point central differences in float64, on every element of
/// every input, or on about `most` evenly spread ones of each. f's output is reduced to a scalar by
/// a fixed random projection. An element's error is |analytic − numeric| / max(|analytic|,
/// |numeric|, 1e-3·the largest of either over the input, 1e-7). Inputs must be float64; throws
/// DtypeError otherwise.
GradcheckResult gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                          const std::vector<Tensor>& inputs,
                          std::int64_t most = std::numeric_limits<std::int64_t>::max());

}  // namespace hew::ag
