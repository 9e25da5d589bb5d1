#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/bsr.h"

/// What the three warpgroups of the fused MLP's kernel do for a tile of tokens: one list of steps
/// for each, made on the host from the live blocks of both matrices. Features come in strips of 64.
/// Each hidden strip that some block of the second matrix reads is made by one warpgroup and read
/// by all that own an output strip with such a block; on the way it lies in one of a ring of slots.
namespace hew::kernels::hopper {

inline constexpr int kMlpStrip = 64;
inline constexpr int kMlpWarpgroups = 3;
inline constexpr int kMlpMostOwn = 4;  // output strips of a warpgroup
/// Thread blocks that go through their programs together, each with a tile of its own. Each loads
/// its share of every box of W into the shared memory of all.
inline constexpr int kMlpCluster = 2;

/// The sizes of one variant of the kernel.
struct MlpTile {
  int tokens;  // a multiple of 16
  int own;     // output strips of a warpgroup
  int stages;  // of each warpgroup's ring of blocks
  int slots;   // hidden strips in shared memory

  constexpr int strips() const { return kMlpWarpgroups * own; }
  /// A warpgroup makes hidden strip n before it reads strip n − lag().
  constexpr int lag() const { return slots / 2; }
  /// A stage's memory takes so many tokens of an output strip.
  constexpr int write_tokens() const { return tokens < 64 ? tokens : 64; }
  constexpr int writes() const { return (tokens + write_tokens() - 1) / write_tokens(); }
};
/// Output strips of all warpgroups stay in registers: the more there are, the fewer tokens.
inline constexpr MlpTile kMlpNarrow{.tokens = 48, .own = 4, .stages = 4, .slots = 8};
inline constexpr MlpTile kMlpWide{.tokens = 80, .own = 2, .stages = 4, .slots = 6};

/// What to do with a stage of the ring, in 32 bits.
///   kUp     strip being made (+)= block · input strip, `source` · depth columns from the first
///   kEmpty  a strip that no block makes: activation of the bias alone; both first and last
///   kDown   own output strip `own` (+)= block · next hidden strip, from column `source` · depth on
///   kWrite  tokens of own output strip `own`, the source-th write_tokens(), through the stage
///   kEnd    of the tile
/// kUp and kDown have a block in the stage, the others nothing. `first` and `last`: of the steps
/// that make a hidden strip, or of those of this warpgroup that read it. Before it does anything
/// else, the warpgroup lets go of `passes` hidden strips that it does not read.
struct MlpOp {
  enum Kind : std::uint32_t { kUp, kEmpty, kDown, kWrite, kEnd };
  static constexpr int kMostPasses = (1 << 17) - 1;

  std::uint32_t bits = 0;

  constexpr Kind kind() const { return static_cast<Kind>(bits & 7); }
  constexpr bool has_block() const { return kind() == kUp || kind() == kDown; }
  constexpr int own() const { return static_cast<int>(bits >> 3 & 3); }
  constexpr bool first() const { return (bits >> 5 & 1) != 0; }
  constexpr bool last() const { return (bits >> 6 & 1) != 0; }
  /// When this step is done, the warpgroup does not read the tile's input again.
  constexpr bool frees_input() const { return (bits >> 7 & 1) != 0; }
  /// The box begins in column 64 of the block, not in column 0.
  constexpr bool right() const { return (bits >> 8 & 1) != 0; }
  constexpr int source() const { return static_cast<int>(bits >> 9 & 63); }
  constexpr int passes() const { return static_cast<int>(bits >> 15); }
};

/// 16 bytes, which the kernel reads at once.
struct alignas(16) MlpStep {
  MlpOp op;
  /// Of kUp and kEmpty: the number of the hidden strip among those that are made, and, from bit 16
  /// on, its place in the matrix.
  std::uint32_t strip = 0;
  /// The first row in values [nnzb·b, b] of the block's box; of b = 32 those of two boxes on top of
  /// each other, of which a dead one begins behind the last.
  std::array<std::int32_t, 2> row{};

  constexpr int number() const { return static_cast<int>(strip & 0xFFFF); }
  constexpr int place() const { return static_cast<int>(strip >> 16); }
};
static_assert(sizeof(MlpStep) == 16);

struct MlpProgram {
  MlpTile tile{};
  std::vector<MlpStep> steps;  // of the warpgroups, one after the other
  std::array<int, kMlpWarpgroups + 1> begin{};
  /// The output strips that each warpgroup owns; −1: none.
  std::array<std::array<int, kMlpMostOwn>, kMlpWarpgroups> strips{};
  int hidden_strips = 0;  // that are made
  int blocks = 0;         // boxes loaded, of 64 × 64, or for b = 32 of 64 × 32
};

/// Whether there is a kernel for first matrices [F, C] and second ones [C', F] of these blocks: one
/// b of 32, 64 or 128 for both, C and C' of up to 768, live blocks in both.
bool has_mlp_program(const BsrIndex& up, const BsrIndex& down);

/// Of two indices whose crow and col lie on the host; nothing else of them is read. Each warpgroup
/// has about as much to do. No order in which warpgroups advance can stop them: the steps of strip
/// n wait for nothing but steps of earlier strips, or of n, that come earlier in each program.
MlpProgram mlp_program(const BsrIndex& up, const BsrIndex& down);

}  // namespace hew::kernels::hopper
