#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/named_enum.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

/// What a product multiplies, in runs of memory that a thread block's copy takes as they are. TMA
/// needs as long for a box's row of 32 or 64 bytes as for one of 128, so that for blocks of such
/// rows a pass over the operands is soon won back. Matrices are bfloat16, or float32, which is
/// rounded to nearest tf32 on the way. A run is rows of one block's width, with the swizzle in
/// which wgmma reads rows of 64 or 32 bytes: of pieces of 16 bytes, piece c of row r lies where
/// piece c ^ r / 2 % 4, c ^ r / 4 % 2, would.
namespace hew::kernels::hopper {

/// Which operands are packed: the blocks, the matrix of tokens. Without a pass threads may also
/// copy both into shared memory, for which rows of 64 bytes are long enough (kCopied, bfloat16
/// alone).
enum class BsrPacking : std::uint8_t { kNone, kValues, kInput, kBoth, kCopied };

constexpr bool packs_values(BsrPacking packing) {
  return packing == BsrPacking::kValues || packing == BsrPacking::kBoth;
}
constexpr bool packs_input(BsrPacking packing) {
  return packing == BsrPacking::kInput || packing == BsrPacking::kBoth;
}

/// Whether blocks [block, block] of such elements have rows of 32 or 64 bytes.
constexpr bool packs(std::int64_t block, std::int64_t element_bytes) {
  return block * element_bytes == 32 || block * element_bytes == 64;
}

/// out[t, c] ← rows [t·tile, (t + 1)·tile) and columns [c·block, (c + 1)·block) of in [M, K], zeros
/// beyond its edges; out is [⌈M/tile⌉, ⌈K/block⌉, tile, block] of in's dtype. `in` is one that TMA
/// can move, tile a multiple of 64.
void pack_tokens(Cuda backend, const ConstView& in, View out);

/// out ← blocks [nnzb, b, b] of the same shape and dtype.
void pack_blocks(Cuda backend, const ConstView& blocks, View out);

}  // namespace hew::kernels::hopper

namespace hew {

template <>
struct EnumNames<kernels::hopper::BsrPacking> {
  using E = kernels::hopper::BsrPacking;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kNone, "none"},
                                                     {E::kValues, "values"},
                                                     {E::kInput, "input"},
                                                     {E::kBoth, "both"},
                                                     {E::kCopied, "copied"}});
};

}  // namespace hew
