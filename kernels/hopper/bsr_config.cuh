#pragma once

#include "kernels/bsr_schedule.h"
#include "kernels/hopper/bsr_product_launch.h"
#include "kernels/hopper/bsr_tiling.h"
#include "kernels/hopper/packing.h"
#include "kernels/hopper/pipeline.cuh"
#include "kernels/hopper/swizzle.h"

namespace hew::kernels::hopper {

struct BsrProductMaps {
  CUtensorMap in;      // [tokens, depth], boxes [kBoxTokens, kDepth]
  CUtensorMap values;  // [nnzb·b, b], boxes [kBox, kRow]
  // [tokens, width], boxes [kBufferTokens, kRow]; which there are, BsrEnding says.
  CUtensorMap out;
  CUtensorMap second_out;
  CUtensorMap given;
  CUtensorMap second_given;
};

template <class Element>
struct BsrProductArgs {
  RowGroups groups;
  TileOrder order;
  int* counters;
  int width;
  const std::uint8_t* packed_in;      // by pack_tokens(), or null: boxes
  const std::uint8_t* packed_values;  // by pack_blocks(), or null: boxes
  int columns;                        // of blocks in the input
  // Of what threads copy: the input [tokens, row_bytes], the blocks.
  const std::uint8_t* in;
  const std::uint8_t* values;
  std::int64_t row_bytes;
  int tokens;
  const Element* bias;  // [width] or null
  BsrEnding ending;
  Activation activation;
  bool keep_pre;  // second_out takes the forward product before it goes on
  float* sums;    // [token tiles, width] or null: of a tile's tokens, from kSlope
  // Of rows that are cut, null without any: what is summed up of each part, see BsrParts, and how
  // many parts have been.
  float* part_sums;  // [cut rows, token tiles, warpgroups of a tile, most parts, sums]
  int* part_counts;  // [cut rows, token tiles, warpgroups of a tile], zeros
};

/// The sizes of one variant of the product. A tile is kHeight features (of kMembers rows of blocks)
/// × kTokens; a warpgroup multiplies strips of 64 features. kTogether: both warpgroups make a tile,
/// of which each has half the strips; else each makes tiles of its own, and one's output overlaps
/// the other's sums.
/// kGradient: of the input. bfloat16 blocks are read with their other side along the depth then;
/// wgmma takes tf32 along the depth alone, so that for float the values are transposed before.
/// copies: threads copy the blocks and most of the input, see BsrPacking::kCopied.
template <class E, int block, bool gradient, BsrTile tile, bool copies = false>
struct BsrConfig {
  using Element = E;  // of all matrices; float is multiplied as tf32
  using Args = BsrProductArgs<E>;

  static constexpr int kBlock = block;
  static constexpr bool kGradient = gradient;
  static constexpr bool kTransposed = gradient && sizeof(E) == 2;
  static constexpr BsrTile kTile = tile;
  static constexpr bool kTogether = tile != BsrTile::kAlone;

  static constexpr int kStrip = 64;
  static constexpr int kBox = block < kStrip ? block : kStrip;  // features of a block in a strip
  static constexpr int kParts = kStrip / kBox;                  // blocks on top of each other
  static constexpr int kHeight = tile == BsrTile::kTall      ? 256
                                 : kTogether || block == 128 ? 128
                                                             : kStrip;
  static constexpr int kMembers = kHeight / block;
  static constexpr int kStrips = kHeight / kStrip;                      // of a tile
  static constexpr int kOwnStrips = kTogether ? kStrips / 2 : kStrips;  // of a warpgroup
  static constexpr int kTokens = tile == BsrTile::kTall || (!kTogether && block == 128) ? 128 : 256;
  static constexpr int kSums = kTokens / 2;       // registers of a thread for a strip
  static constexpr bool kCuts = block >= kStrip;  // rows may be cut into parts

  // Tiles in shared memory have rows of 128 bytes, or of a block's if those are shorter.
  static constexpr int kElementBytes = sizeof(E);
  static constexpr int kRow = kBox * kElementBytes < 128 ? kBox : 128 / kElementBytes;
  static constexpr int kRowBytes = kRow * kElementBytes;
  static constexpr bool kShortRows = packs(block, sizeof(E));
  static constexpr bool kCopies = copies;
  static constexpr bool kPacks = kShortRows && !copies;  // or takes boxes
  static_assert(!copies || (kShortRows && sizeof(E) == 2), "TMA alone rounds to tf32");
  static constexpr Swizzle kSwizzle = kRowBytes == 32   ? Swizzle::k32
                                      : kRowBytes == 64 ? Swizzle::k64
                                                        : Swizzle::k128;

  // One stage of the ring: input [kTokens, kDepth], then strips [64, kDepth] (transposed: [kDepth,
  // kBox] times kParts) of W. Several stages may make up a block's depth.
  static constexpr int kDepth = kRow;
  static constexpr int kStagesPerBlock = block / kDepth;
  static constexpr int kInputBytes = kTokens * kRowBytes;
  // Of which TMA loads these rows: beside threads that copy, what it can meanwhile.
  static constexpr int kBoxTokens = kCopies ? kTokens * 3 / 8 : kTokens;
  static constexpr int kBoxBytes = kBoxTokens * kRowBytes;
  static constexpr int kStripBytes = kStrip * kRowBytes;
  static constexpr int kPartBytes = kStripBytes / kParts;
  static constexpr int kStageBytes = kInputBytes + kStrips * kStripBytes;
  static constexpr int kMemberBytes = kStrips * kStripBytes / kMembers;  // of a stage
  /// The member that a part of a strip belongs to.
  __device__ static constexpr int member(int strip, int part) {
    return (strip * kStrip + part * kBox) / kBlock;
  }

  // Output passes through buffers [kBufferTokens, 64 features], of pieces [kBufferTokens, kRow].
  static constexpr int kBufferTokens = 128 / kElementBytes;
  static constexpr int kPieces = kStrip / kRow;
  static constexpr int kPieceBytes = kBufferTokens * kRowBytes;
  static constexpr int kBufferBytes = kPieces * kPieceBytes;
  static constexpr int kBuffers = kTogether ? 2 : 4;                   // of a warpgroup
  static constexpr int kFills = kOwnStrips * kTokens / kBufferTokens;  // for a tile's output

  // 227 KiB less what is declared in the kernel, and less the alignment of swizzled tiles.
  static constexpr int kAlignment = 1024;
  static constexpr int kRoom = 227 * 1024 - 1024 - kAlignment;
  static constexpr int kStages = (kRoom - 2 * kBuffers * kBufferBytes) / kStageBytes;
  static constexpr int kSharedBytes =
      kStages * kStageBytes + 2 * kBuffers * kBufferBytes + kAlignment;

  // Warps that load. A block's boxes or runs are ordered one by one, some 50 cycles each: with many
  // small ones a step, a single warp would be what binds.
  static constexpr int kLoaders = kShortRows ? 4 : 1;
  static_assert(kStages % kLoaders == 0, "a stage belongs to one loader");

  static constexpr int kConsumingWarpgroups = kTogether ? 2 : 1;  // of a stage
  // With several members a warpgroup may have nothing to multiply in a step.
  static constexpr bool kSkips = kMembers > 1;
  // When wgmma has ended, one thread can let go of its operands for the whole warpgroup; where
  // warps may skip it, nothing but themselves says that they have.
  static constexpr int kReleases = kConsumingWarpgroups * (kSkips ? 4 : 1);
};

/// A tile, handed from the producer to the consumers.
template <class Config>
struct Tile {
  int first_token;
  int stages;      // of the ring; −1: there are no more tiles
  int first_step;  // of the schedule's
  int part;        // a word of RowPart
  int rows[Config::kMembers];
};

/// A warpgroup's part of a tile: `features` are the first ones of its strips' parts, −1 for none.
template <class Config>
struct OwnTile {
  int first_token;
  int stages;
  RowPart part;
  int features[Config::kOwnStrips][Config::kParts];

  /// By whole warps, of which lane 0 reads `tile`.
  __device__ OwnTile(const Tile<Config>& tile, int first_strip)
      : first_token(of_first_lane([&] { return tile.first_token; })),
        stages(of_first_lane([&] { return tile.stages; })),
        part{Config::kCuts ? of_first_lane([&] { return tile.part; }) : 0} {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
#pragma unroll
      for (int p = 0; p < Config::kParts; ++p) {
        const int offset = (first_strip + s) * Config::kStrip + p * Config::kBox;
        const int row = of_first_lane([&] { return tile.rows[offset / Config::kBlock]; });
        features[s][p] = row < 0 ? -1 : row * Config::kBlock + offset % Config::kBlock;
      }
    }
  }
};

}  // namespace hew::kernels::hopper
