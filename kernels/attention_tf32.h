#pragma once

#include "kernels/attention.h"

namespace hew::kernels {

/// Attention of float32 on tensor cores, with options.scale > 0: the factors of all products are
/// rounded to nearest tf32, the softmax and all sums are float32. Gives the same bits every time.
/// False, and nothing done, where the stream's ProductSettings forbid tf32, heads are no multiple
/// of 8 wide or wider than 128, or a tensor is not aligned to 16 bytes.
bool tf32_attention_forward(Cuda backend, const AttentionForward& args);
bool tf32_attention_backward(Cuda backend, const AttentionBackward& args);

}  // namespace hew::kernels
