#pragma once

#include <span>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// What clipping by global norm asks for, of n gradients on one device: result, float64 [3 + n], ←
///   norm   √Σ g² over all of them
///   scale  min(1, max_norm/(norm + 1e-6)), or 1 if max_norm is 0 (torch.nn.utils.clip_grad_norm_);
///          NaN if norm is not finite
///   bad    index of the first gradient with a NaN or an infinity, or −1
///   Σ g²   of each
/// in float64 and in an order that depends on the shapes alone. Gradients are float32 or float64,
/// on a GPU also bfloat16, in any mixture. Throws ShapeError, DtypeError, BackendError.
void global_norm(std::span<const ConstView> gradients, double max_norm, const View& result,
                 const Stream& stream);

/// The numbers in front of the sums of squares.
inline constexpr std::int64_t kNormFields = 3;
/// PyTorch's, beside the norm.
inline constexpr double kNormEpsilon = 1e-6;

void global_norm(Cpu, std::span<const ConstView> gradients, double max_norm, const View& result);
void global_norm(Cuda, std::span<const ConstView> gradients, double max_norm, const View& result);

}  // namespace hew::kernels
