#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sparsity/rule.h"

namespace hew::sparsity {

/// One byte a block, row-major over the block grid; 1 = live.
using MaskBytes = std::vector<std::uint8_t>;

/// Live blocks wanted of n at sparsity s by prune-and-grow: max(1, n − round(s·n)), half up.
std::int64_t live_blocks(std::int64_t n, double sparsity);
/// Blocks a supermask keeps of n: n − round(s·(n − 1)), half up.
std::int64_t kept_blocks(std::int64_t n, double sparsity);

/// Indices of the k largest scores, best first; equal scores: the lower index counts as larger.
/// Throws Error on NaN.
std::vector<std::int64_t> top_k(std::span<const double> scores, std::int64_t k);

/// What one refresh decides over: all blocks of one matrix, or of several matrices pooled end to
/// end (scope group or global). All spans have one entry a block.
struct RefreshInput {
  std::span<const std::uint8_t> live;
  std::span<const double> score;  // of live blocks; dead entries are not looked at
  std::span<const double> growth =
      {};                   // of every block; empty: nothing grows and nothing fills by it
  std::int64_t wanted = 0;  // k
  Regrow regrow = Regrow::kNone;
  double swap_fraction = 0;  // α_i, for Regrow::kSwap
  std::span<const std::int64_t> matrix_begin =
      {};  // first block of each pooled matrix, then the end
};

/// methods.md §1, steps 2 and 3: K = the k best live blocks by score (where fewer live, the rest by
/// growth's order, then by index), D = the k best blocks by growth minus K.
///   kUnion  K ∪ D
///   kSwap   K, its weakest min(⌊α·k⌋, |D|) replaced by D's strongest: exactly k
///   kNone   K
/// Every pooled matrix keeps at least its best block: where K would leave one empty, that block
/// takes the place of the weakest block of a matrix that has more than one.
MaskBytes prune_and_grow(const RefreshInput& input);

}  // namespace hew::sparsity
