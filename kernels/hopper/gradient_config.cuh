#pragma once

#include "kernels/hopper/gradient_items.h"
#include "kernels/hopper/swizzle.h"
#include "kernels/hopper/tile_draw.cuh"

/// The sizes of the weight gradient's kernel, what it is given, and what it makes at a time.
namespace hew::kernels::hopper {

constexpr int kWarpgroupThreads = 128;
constexpr int kGroupWidth = 64;  // columns of sums that are handled at a time
constexpr int kGroups = 4;       // of one warpgroup's 64 × 256 sums
constexpr int kGroupSums = 32;   // of one thread
constexpr int kGroupElements = kGroupWidth * kGroupWidth;

/// What differs with the type of dy and x, and with the block size. float is multiplied as tf32.
template <class E, int b>
struct GradientConfig {
  using Element = E;
  static constexpr int kElementBytes = sizeof(E);
  static constexpr int kBlock = b;
  static constexpr int kPanel = b < 64 ? b : 64;           // columns
  static constexpr int kStepTokens = 128 / kElementBytes;  // the depth of a stage
  // A panel is one box of TMA, or several beside each other, of rows of up to 128 bytes.
  static constexpr int kRow = kPanel * kElementBytes < 128 ? kPanel : 128 / kElementBytes;
  static constexpr int kRowBytes = kRow * kElementBytes;
  static constexpr int kBoxes = kPanel / kRow;
  static constexpr int kBoxBytes = kStepTokens * kRowBytes;
  static constexpr int kPanelBytes = kBoxes * kBoxBytes;
  static constexpr Swizzle kSwizzle = kRowBytes == 32   ? Swizzle::k32
                                      : kRowBytes == 64 ? Swizzle::k64
                                                        : Swizzle::k128;
  static constexpr int kPanels = b == 16              ? 36
                                 : b == 32            ? 18
                                 : b == 128           ? 6
                                 : kElementBytes == 2 ? 7
                                                      : 9;
  static constexpr int kStageBytes = kPanels * kPanelBytes;
  static constexpr int kStages = kPanels < 9 ? 4 : 3;
  // To align the first stage; and where slots don't fill a group, what follows is multiplied too.
  static constexpr int kSpareBytes = 1024 + (kGroupWidth / kPanel - 1) * kPanelBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + kSpareBytes;
};

struct GradientParams {
  const GradientItem* items;
  int whole;   // items [0, whole) take all tokens
  int cut;     // the items behind them take part of the tokens,
  int splits;  // one of so many
  int steps;   // of Config::kStepTokens tokens
  int rows;    // N
  int cols;    // K
  bool add;
  float* dvalues;  // [nnzb, b, b]
  float* partial;  // [splits, cut, 2, kGroups, kGroupElements], elements in the threads' order
  int lead;        // GradientSplit::lead
  TileDraw draw;
  unsigned long long* at_work;  // see Pacer

  __device__ int tiles() const { return whole + cut * splits; }
};

/// One item over a range of tokens, as the loading warp hands it to the others.
struct GradientTile {
  GradientItem item;
  int first_step;
  int steps;    // −1: there are no more
  int partial;  // where its sums go in partial, −1: into dvalues
  int unused;
};

}  // namespace hew::kernels::hopper
