#include "kernels/average.h"

#include <type_traits>

namespace hew::kernels {

void move_averages(std::span<const AverageTensors> tensors, double decay, const Stream& stream) {
  constexpr std::string_view kOp = "move_averages";
  if (tensors.empty())
    return;
  const View& first = tensors.front().average;
  require<DtypeError>(first.dtype == DType::kFloat32 || first.dtype == DType::kFloat64,
                      "[{}] an average is {}, expected float32 or float64", kOp,
                      name_of(first.dtype));
  for (const AverageTensors& one : tensors) {
    require_like(kOp, "average", one.average, first);
    require_fits(kOp, "value", one.value, one.average.shape, first);
  }
  dispatch(kOp, first.device, stream, first.dtype, [&]<class T>(auto backend) {
    if constexpr (!std::is_same_v<T, BFloat16>)
      move_averages<T>(backend, tensors, decay);
  });
}

}  // namespace hew::kernels
