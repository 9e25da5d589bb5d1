#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/named_enum.h"
#include "sparsity/pattern.h"

namespace hew {

/// A linear layer y[M, N] = x[M, K]·Wᵀ.
struct BsrShape {
  std::string name = {};  // empty: not one of the known ones
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
};

/// ViT-B's MLP on 256 images, GPT-2 XL's first layer and Llama-8B's MLP on 16k and 8k tokens.
std::span<const BsrShape> known_bsr_shapes();
/// Those of these names, in this order; "all" is all of them. Throws ConfigError.
std::vector<BsrShape> bsr_shapes_of(const std::vector<std::string>& names);

/// Which blocks of a weight are live, the wanted number of them in any case: drawn alike; or first
/// all that one block row, or block column, can have of eight times the mean, then the rest.
enum class BsrPatternKind : std::uint8_t { kRandom, kLongRow, kLongColumn };

template <>
struct EnumNames<BsrPatternKind> {
  static constexpr std::array kTable{std::pair{BsrPatternKind::kRandom, "random"},
                                     std::pair{BsrPatternKind::kLongRow, "long-row"},
                                     std::pair{BsrPatternKind::kLongColumn, "long-column"}};
};

/// sparsity::live_blocks(all, sparsity) live blocks.
sparsity::BsrPattern draw_pattern(BsrPatternKind kind, const sparsity::BlockGrid& grid,
                                  double sparsity, const Stream& stream);

}  // namespace hew
