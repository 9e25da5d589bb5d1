#pragma once

#include "kernels/attention.h"

namespace hew::kernels {

/// Attention in bfloat16 by cuDNN's fused kernels, with options.scale > 0. False, and nothing done,
/// where this build has no cuDNN or cuDNN no plan: AttentionSettings::refusal then says why. Throw
/// BackendError on any other failure.
bool cudnn_attention_forward(const AttentionForward& args, const Stream& stream);
bool cudnn_attention_backward(const AttentionBackward& args, const Stream& stream);

/// Whether this build has it.
bool has_cudnn_attention();

}  // namespace hew::kernels
