#pragma once

#include "app/bench_kernels_timer.h"

namespace hew {

// The groups of `hew bench kernels`, each a name of --only. Rows and elements are those of GPT-2's
// activations, so many that an operand exceeds any cache.

void bench_norm(KernelTimer& timer);
void bench_activation(KernelTimer& timer);
void bench_swiglu(KernelTimer& timer);
void bench_rotary(KernelTimer& timer);
void bench_dropout(KernelTimer& timer);
/// cast, add, add_broadcast, sum_leading
void bench_elementwise(KernelTimer& timer);

/// Ids are as frequent as words: id i has a share of about 1/i.
void bench_embedding(KernelTimer& timer);
void bench_cross_entropy(KernelTimer& timer);
/// The parameters of GPT-2 124M and 774M, float32 with moments of float32 and of bfloat16.
void bench_adamw(KernelTimer& timer);
void bench_global_norm(KernelTimer& timer);
void bench_blocks(KernelTimer& timer);

/// Linear layers of GPT-2 124M and 774M, and 8192³.
void bench_products(KernelTimer& timer);
/// Of language models, causal, whose FLOPs are those of the seen half, and of a vision transformer:
/// 2 products forward, 5 backward.
void bench_attention(KernelTimer& timer);

}  // namespace hew
