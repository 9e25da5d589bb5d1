#include "kernels/global_norm.h"

#include <iterator>

namespace hew::kernels {

void global_norm(std::span<const ConstView> gradients, double max_norm, const View& result,
                 const Stream& stream) {
  require_shape("global_norm", "result", result, {kNormFields + std::ssize(gradients)});
  require_dtype("global_norm", "result", result, DType::kFloat64);
  for (const ConstView& g : gradients) {
    require_device("global_norm", "a gradient", g, result);
    const bool known = g.dtype == DType::kFloat32 || g.dtype == DType::kFloat64 ||
                       (g.dtype == DType::kBFloat16 && !g.device.is_cpu());
    require<DtypeError>(known, "[global_norm] cannot compute in {} on {}", name_of(g.dtype),
                        to_string(g.device));
  }
  dispatch("global_norm", result.device, stream, DType::kFloat64,
           [&]<class T>(auto backend) { global_norm(backend, gradients, max_norm, result); });
}

}  // namespace hew::kernels
