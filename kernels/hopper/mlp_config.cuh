#pragma once

#include <cuda_bf16.h>

#include "kernels/activation.h"
#include "kernels/hopper/mlp_program.h"
#include "kernels/hopper/pipeline.cuh"
#include "kernels/hopper/swizzle.h"

namespace hew::kernels::hopper {

struct MlpMaps {
  CUtensorMap in;    // [tokens, C], boxes [kTokens, 64]
  CUtensorMap up;    // [nnzb·b, b], boxes [kShareRows, kDepth]
  CUtensorMap down;  // the same of the second matrix
  CUtensorMap out;   // [tokens, C'], boxes [kBoxTokens, 64]
};

struct MlpArgs {
  const MlpStep* steps;
  int begin[kMlpWarpgroups + 1];
  int strips[kMlpWarpgroups][kMlpMostOwn];
  int hidden_strips;
  int in_strips;
  int tiles;   // a multiple of kMlpCluster
  int hidden;  // F
  int width;   // C'
  Activation activation;
  const __nv_bfloat16* up_bias;    // [F] or null
  const __nv_bfloat16* down_bias;  // [C'] or null
};

/// The sizes of one variant of the fused MLP. A box of W is 64 rows × depth; of blocks of 32 each
/// half is another block's.
template <bool wide, int depth>
struct MlpConfig {
  using Element = __nv_bfloat16;
  static constexpr MlpTile kTile = wide ? kMlpWide : kMlpNarrow;
  static constexpr int kTokens = kTile.tokens;
  static constexpr int kOwn = kTile.own;
  static constexpr int kStages = kTile.stages;
  static constexpr int kSlots = kTile.slots;
  static constexpr int kSums = kTokens / 2;  // registers of a thread for a strip

  static constexpr int kDepth = depth;
  static constexpr int kBoxBytes = kMlpStrip * depth * 2;
  static constexpr int kShareRows = kMlpStrip / kMlpCluster;  // that one thread block loads
  static constexpr int kShareBytes = kBoxBytes / kMlpCluster;
  static constexpr Swizzle kBlockSwizzle = depth == 32 ? Swizzle::k64 : Swizzle::k128;

  // Strips of tokens, [tokens, 64] in rows of 128 swizzled bytes: of input, hidden and output.
  static constexpr int kRow = kMlpStrip;
  static constexpr int kRowBytes = 2 * kRow;
  static constexpr int kPieceBytes = kTokens * kRowBytes;
  static constexpr int kInputBytes = kTile.strips() * kPieceBytes;
  static constexpr int kWriteTokens = kTile.write_tokens();
  static constexpr int kWrites = kTile.writes();
  static constexpr int kBoxTokens = kWrites == 1 ? kTokens : 16;

  // Dynamic shared memory: the input, the slots, each warpgroup's stages.
  static constexpr int kAlignment = 1024;
  static constexpr int kStageBytes = kMlpStrip * 128;
  static constexpr int kStagesAt = kInputBytes + kSlots * kPieceBytes;
  static constexpr int kSharedBytes =
      kStagesAt + kMlpWarpgroups * kStages * kStageBytes + kAlignment;
  static_assert(kSharedBytes <= 226 * 1024 && kWriteTokens * kRowBytes <= kStageBytes);
  static_assert(kTokens % 16 == 0 && kPieceBytes % kAlignment == 0);
};

/// What a thread block's threads share beside that.
template <class Config>
struct MlpShared {
  using Stages = Ring<Config::kStages>;
  using Slots = Ring<Config::kSlots>;

  alignas(8) std::uint64_t stage_barriers[kMlpWarpgroups][Stages::kBarriers];
  alignas(8) std::uint64_t slot_barriers[Slots::kBarriers];
  alignas(8) std::uint64_t input_barriers[Ring<1>::kBarriers];
  uint2 ops[kMlpWarpgroups][Config::kStages];  // MlpStep's op and strip
};

}  // namespace hew::kernels::hopper
