#include "kernels/hopper/bsr_tiling.h"

#include <algorithm>
#include <limits>

namespace hew::kernels::hopper {
namespace {

constexpr double kMemoryRate = 3.0e12;  // bytes a second, device memory of an H100
constexpr double kL2Rate = 7.8e12;      // from the second-level cache to shared memory
// Of products with b = 16 and 32, fitted to what they were measured at (docs/results/bsr-h100.md).
// Rows of boxes a second that the multiprocessors' TMA units take, be they of 32, 64 or 128 bytes.
constexpr double kRowRate = 1.05e11;
constexpr double kShortRowL2Rate = 8.5e12;  // bytes a second
// The same where threads copy beside TMA.
constexpr double kCopiedRowRate = 1.25e11;
constexpr double kCopiedL2Rate = 7.5e12;
constexpr double kPackingRate = 2.9e12;  // read and written
constexpr double kLaunch = 3e-6;         // s, of one more kernel
constexpr double kExposed = 0.8;         // of the time for device memory, beside the loads
// What tall tiles take of the time that their loads would make expect.
constexpr double kTallShare = 0.9;
// Tiles made alone win where their loads take less than this share of what binds those made
// together: their output hides behind the other warpgroup's loads.
constexpr double kLoadShare = 0.8;
// They also win where few rounds of tiles made together would leave multiprocessors idle, and
// blocks are so sparse that tiles differ and share little.
constexpr std::int64_t kFewRounds = 10;
// Values above this are read from device memory in every pass.
constexpr std::int64_t kCachedValues = std::int64_t{20} << 20;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Of a tile.
std::int64_t tile_tokens(std::int64_t block, BsrTile tile) {
  return tile == BsrTile::kTall || (tile == BsrTile::kAlone && block == 128) ? 128 : 256;
}

const RowGroups& groups_of(const BsrWalk& walk, BsrTile tile) {
  return tile == BsrTile::kTall ? walk.tall : tile == BsrTile::kAlone ? walk.alone : walk.together;
}

// From the second-level cache to shared memory.
double loaded_bytes(const RowGroups& groups, const BsrProductSize& size, std::int64_t tokens) {
  const std::int64_t elements =
      groups.steps * tokens * size.block + size.nnzb * size.block * size.block;
  return static_cast<double>(elements * ceil_div(size.tokens, tokens) * size.element_bytes);
}

double load_seconds(const BsrWalk& walk, const BsrProductSize& size, BsrTile tile) {
  return loaded_bytes(groups_of(walk, tile), size, tile_tokens(size.block, tile)) / kL2Rate;
}

double memory_seconds(const BsrProductSize& size) {
  const std::int64_t elements =
      size.tokens * (size.depth + size.outputs * size.width) + size.nnzb * size.block * size.block;
  return static_cast<double>(elements * size.element_bytes) / kMemoryRate;
}

// How long a product of blocks with short rows takes, with what is packed before: where rows bind
// or bytes.
double packed_seconds(const BsrWalk& walk, const BsrProductSize& size, BsrTile tile,
                      BsrPacking packing) {
  const RowGroups& groups = groups_of(walk, tile);
  const std::int64_t tokens = tile_tokens(size.block, tile);
  constexpr double kRow = 128;  // bytes of a run that count as a row
  const auto times = [](std::int64_t a, std::int64_t b) { return static_cast<double>(a * b); };
  const double short_rows = static_cast<double>(size.block * size.element_bytes) / kRow;
  const std::int64_t token_tiles = ceil_div(size.tokens, tokens);
  const double moving = times(token_tiles * tokens, groups.steps);
  const double live = times(token_tiles, size.nnzb * size.block);
  double before = 0;
  const auto pack = [&](std::int64_t elements) {
    before += kLaunch + times(2 * elements, size.element_bytes) / kPackingRate;
  };
  double rows = 0;
  const bool copied = packing == BsrPacking::kCopied;
  if (packs_input(packing)) {
    pack(size.tokens * size.depth);
    rows += moving * short_rows;
  } else {
    rows += moving;
  }
  if (packs_values(packing)) {
    pack(size.nnzb * size.block * size.block);
    rows += live * short_rows;
  } else {
    rows += copied ? live * short_rows : live;  // a thread's pieces do not end with a row
  }
  const double inside =
      std::max(rows / (copied ? kCopiedRowRate : kRowRate),
               loaded_bytes(groups, size, tokens) / (copied ? kCopiedL2Rate : kShortRowL2Rate));
  const double memory = memory_seconds(size);
  return (tile == BsrTile::kTall ? kTallShare : 1) *
         (before + std::max(memory, inside + kExposed * memory));
}

// What one multiprocessor needs for the activation of a tile of 128 × 256.
double activation_seconds(Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return 2.9e-6;
    case Activation::kGeluTanh:
      return 2.2e-6;
    case Activation::kSilu:
      return 1.5e-6;
    default:
      return 0;
  }
}

bool prefers_alone(const BsrWalk& walk, const BsrProductSize& size) {
  if (walk.alone.groups == 0)
    return false;
  const double alone = load_seconds(walk, size, BsrTile::kAlone);
  const std::int64_t tiles = walk.together.groups * ceil_div(size.tokens, 256);
  const double exposed = activation_seconds(size.activation) * static_cast<double>(tiles) /
                         static_cast<double>(size.multiprocessors);
  if (alone < kLoadShare * memory_seconds(size) ||
      (exposed > 0 && alone < load_seconds(walk, size, BsrTile::kTogether) + exposed))
    return true;
  const std::int64_t blocks = ceil_div(size.depth, size.block) * ceil_div(size.width, size.block);
  const double density = static_cast<double>(size.nnzb) / static_cast<double>(blocks);
  return tiles < kFewRounds * size.multiprocessors && density <= (size.block == 128 ? 0.12 : 0.06);
}

// Token tiles of a pass, in tiles of 256. What is measured best: one where blocks are small; more
// of large ones, whose tiles wait for the tensor cores and differ in length, and where the values
// do not stay in the cache.
std::int64_t tiles_of_pass(const BsrProductSize& size) {
  const bool cached = size.nnzb * size.block * size.block * size.element_bytes <= kCachedValues;
  if (size.block == 128)
    return cached ? 2 : 4;
  return size.block == 64 && !cached ? 2 : 1;
}

TileOrder order_of(const RowGroups& groups, const BsrProductSize& size, std::int64_t tokens) {
  const std::int64_t token_tiles = ceil_div(size.tokens, tokens);
  // The parts of a row come first in a pass, and read most of what the others read later.
  const std::int64_t tiles = groups.cut_rows > 0 ? 1 : tiles_of_pass(size);
  const std::int64_t run = tiles * 256 / tokens;
  // Of how many token tiles a pass follows the start of its longest tile for as long as that takes.
  const std::int64_t longest = groups.longest * size.multiprocessors;
  const std::int64_t wanted = ceil_div(longest, std::max<std::int64_t>(groups.steps, 1));
  // What the last pass may hold of the input.
  const std::int64_t held = std::max(
      run, kCachedInput / (tokens * std::max<std::int64_t>(size.depth, 1) * size.element_bytes));
  const std::int64_t last = std::min({std::max(run, wanted), held, token_tiles});
  TileOrder out{.groups = static_cast<int>(groups.groups),
                .token_tiles = static_cast<int>(token_tiles),
                .run = static_cast<int>(run),
                .last_run = static_cast<int>(last),
                .end = static_cast<int>(last)};
  if (wanted <= held || groups.long_groups == 0)
    return out;
  // The cache does not hold that many: the long tiles read their input apart from the others.
  const std::int64_t others = std::max<std::int64_t>(groups.steps - groups.long_steps, 1);
  out.long_groups = static_cast<int>(groups.long_groups);
  out.end = static_cast<int>(std::clamp(ceil_div(longest, others), last, token_tiles));
  return out;
}

BsrTiling tiling_of(const BsrWalk& walk, const BsrProductSize& size, BsrTile tile,
                    BsrPacking packing) {
  const std::int64_t tokens = tile_tokens(size.block, tile);
  return {.tile = tile,
          .tokens = static_cast<int>(tokens),
          .order = order_of(groups_of(walk, tile), size, tokens),
          .packing = packing};
}

// Of blocks with short rows.
BsrTiling packed_tiling(const BsrWalk& walk, const BsrProductSize& size, const BsrForced& forced) {
  using enum BsrPacking;
  const bool bfloat16 = size.element_bytes == 2;
  const bool has_tall = walk.tall.groups > 0 && bfloat16;
  double least = std::numeric_limits<double>::infinity();
  BsrTile best = BsrTile::kTogether;
  BsrPacking packing = kNone;
  for (const BsrTile tile : {BsrTile::kTogether, BsrTile::kTall}) {
    const bool tall = tile == BsrTile::kTall;
    if ((tall && !has_tall) || (has_tall && forced.tall.value_or(tall) != tall))
      continue;
    for (const BsrPacking packs : {kNone, kValues, kInput, kBoth, kCopied}) {
      if ((packs == kCopied && !bfloat16) || forced.packing.value_or(packs) != packs)
        continue;
      const double seconds = packed_seconds(walk, size, tile, packs);
      if (seconds < least) {
        least = seconds;
        best = tile;
        packing = packs;
      }
    }
  }
  return tiling_of(walk, size, best, packing);
}

}  // namespace

BsrTiling choose_tiling(const BsrWalk& walk, const BsrProductSize& size, const BsrForced& forced) {
  if (packs(size.block, size.element_bytes))
    return packed_tiling(walk, size, forced);
  const BsrTile tile = prefers_alone(walk, size) ? BsrTile::kAlone : BsrTile::kTogether;
  return tiling_of(walk, size, tile, BsrPacking::kNone);
}

}  // namespace hew::kernels::hopper
