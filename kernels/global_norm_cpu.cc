#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/global_norm.h"

namespace hew::kernels {

void global_norm(Cpu backend, std::span<const ConstView> gradients, double max_norm,
                 const View& result) {
  double* out = result.as<double>();
  double total = 0;
  double bad = -1;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const ConstView& g = gradients[i];
    const double squares = g.dtype == DType::kFloat32 ? sum_of_squares<float>(backend, g)
                                                      : sum_of_squares<double>(backend, g);
    if (!std::isfinite(squares) && bad < 0)
      bad = static_cast<double>(i);
    total += squares;
    out[static_cast<std::size_t>(kNormFields) + i] = squares;
  }
  const double norm = std::sqrt(total);
  double scale = max_norm > 0 ? std::min(1.0, max_norm / (norm + kNormEpsilon)) : 1;
  if (!std::isfinite(norm))
    scale = std::numeric_limits<double>::quiet_NaN();
  out[0] = norm;
  out[1] = scale;
  out[2] = bad;
}

}  // namespace hew::kernels
