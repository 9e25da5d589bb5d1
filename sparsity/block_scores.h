#pragma once

#include <cstdint>
#include <vector>

#include "sparsity/linear_weight.h"

namespace hew::sparsity {

/// One number a live block, spread over all blocks; dead ones get 0.
std::vector<double> spread(const BsrPattern& pattern, const std::vector<double>& live);

/// Uniform in [0, 1) for every block, by (key, stream, block) alone.
std::vector<double> random_block_scores(const BlockGrid& grid, std::uint64_t key,
                                        std::int64_t stream);
/// Starting scores of a supermask [R, C]: kaiming_uniform(a = √5) = U(−1/√C, +1/√C), drawn in
/// float32 by (key, block), of `like`'s dtype and device.
Tensor initial_scores(const BlockGrid& grid, std::uint64_t key, const Tensor& like);

/// A float32 or float64 tensor as host float64 values.
std::vector<double> widen(const Tensor& tensor);

}  // namespace hew::sparsity
