#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// mask[i] ← 1 for the `keep` largest of scores, else 0; of equal scores the lower index counts as
/// larger. scores float64 [n], mask uint8 [n], 0 ≤ keep ≤ n. NaN has no place in this order: on the
/// CPU it throws Error, a GPU, which cannot without a wait, takes it for the smallest. Throws
/// ShapeError, DtypeError.
void top_blocks(const ConstView& scores, std::int64_t keep, const View& mask, const Stream& stream);
/// mask[i] ← 1 where scores[i] ≥ threshold, else 0 (also for NaN).
void threshold_blocks(const ConstView& scores, double threshold, const View& mask,
                      const Stream& stream);

void top_blocks(Cpu, const ConstView& scores, std::int64_t keep, const View& mask);
void top_blocks(Cuda, const ConstView& scores, std::int64_t keep, const View& mask);
void threshold_blocks(Cpu, const ConstView& scores, double threshold, const View& mask);
void threshold_blocks(Cuda, const ConstView& scores, double threshold, const View& mask);

}  // namespace hew::kernels
