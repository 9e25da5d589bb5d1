#pragma once

#include <cstdint>
#include <optional>

#include "kernels/bsr_schedule.h"
#include "kernels/hopper/packing.h"

namespace hew::kernels::hopper {

/// The order in which the tiles of a product are made: passes of `run` token tiles over all groups
/// of rows, so that what a pass reads of the input stays in the second-level cache; within a pass
/// the longest groups first, all their token tiles one after the other. Work has to be left when
/// the longest tiles are done: of the last `end` token tiles those of the first `long_groups`
/// groups come before all others, and the last pass takes `last_run` token tiles.
struct TileOrder {
  int groups = 0;
  int token_tiles = 0;
  int run = 1;
  int last_run = 1;  // up to `end`
  int end = 1;
  int long_groups = 0;

  constexpr int count() const { return groups * token_tiles; }

  struct Place {
    int group;
    int token_tile;
  };
  /// The tile made at `index` of count().
  constexpr Place at(int index) const {
    const int begin = token_tiles - end;
    if (index < begin * groups)
      return in_passes({.token_tiles = begin, .groups = groups, .last_run = 0}, index);
    index -= begin * groups;
    if (index < end * long_groups) {
      const Place place =
          in_passes({.token_tiles = end, .groups = long_groups, .last_run = 0}, index);
      return {place.group, begin + place.token_tile};
    }
    index -= end * long_groups;
    const Place place = in_passes(
        {.token_tiles = end, .groups = groups - long_groups, .last_run = last_run}, index);
    return {long_groups + place.group, begin + place.token_tile};
  }

 private:
  struct Passes {
    int token_tiles;
    int groups;
    int last_run;  // 0: as the others
  };
  constexpr Place in_passes(const Passes& passes, int index) const {
    const int before_last = passes.token_tiles - passes.last_run;
    int first = before_last;  // token tile of the pass
    int length = passes.last_run;
    if (index < before_last * passes.groups) {
      first = index / (run * passes.groups) * run;
      length = run < before_last - first ? run : before_last - first;
    }
    const int rest = index - first * passes.groups;
    return {rest / length, first + rest % length};
  }
};

/// What a thread block makes at a time, features × tokens.
///   kTogether  128 × 256 by two warpgroups, which wait for the slower one's output
///   kAlone     64 × 256 (128 × 128) by each of them, which loads more for each multiplication
///   kTall      256 × 128 by both: fewer loads of the input, which more rows of blocks share, and
///              more of the blocks
enum class BsrTile : std::uint8_t { kTogether, kAlone, kTall };

/// How a product is computed.
struct BsrTiling {
  BsrTile tile = BsrTile::kTogether;
  int tokens = 0;  // of a tile
  TileOrder order{};
  BsrPacking packing = BsrPacking::kNone;
};

/// out[tokens, width] ← in[tokens, depth] · block-sparse [depth, width]
struct BsrProductSize {
  std::int64_t tokens = 0;
  std::int64_t depth = 0;
  std::int64_t width = 0;
  std::int64_t block = 0;
  std::int64_t nnzb = 0;
  std::int64_t element_bytes = 2;  // of all matrices
  int multiprocessors = 0;
  int outputs = 1;                            // matrices [tokens, width] that are moved
  Activation activation = Activation::kNone;  // at the end
};

/// What is not left to the model, where a block has it.
struct BsrForced {
  std::optional<BsrPacking> packing = {};
  std::optional<bool> tall = {};
};

/// The tiling that a model of the device expects to be fastest.
BsrTiling choose_tiling(const BsrWalk& walk, const BsrProductSize& size,
                        const BsrForced& forced = {});

}  // namespace hew::kernels::hopper
