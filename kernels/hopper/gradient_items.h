#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/bsr.h"

namespace hew::kernels::hopper {

/// What a thread block of the weight gradient makes at a time. Panels are P = min(b, 64) columns of
/// dy or x over the item's tokens; each of two warpgroups multiplies 64 columns of its left operand
/// (64 / P panels) with up to 256 of its right one (neighbouring panels), which both may share.
/// With b = 64 the second half of the right one may have a left operand of its own. Left is dy and
/// right is x, or the other way round where `transposed`.
struct GradientItem {
  static constexpr int kWarpgroups = 2;
  static constexpr int kMaxPanels = 36;
  static constexpr int kMaxSlots = 16;   // right panels of a warpgroup
  static constexpr int kMaxStacked = 4;  // lines of blocks in a warpgroup's left operand

  static constexpr std::int64_t kWords = 192;  // int32

  struct Warpgroup {
    std::array<std::int32_t, 2> left{};  // the first left panel of each half of its slots
    std::int32_t right = 0;              // its first right panel, counted from the first left one
    std::int32_t slots = 0;              // its right panels, from 0
  };

  std::int32_t transposed = 0;
  std::int32_t left_panels = 0;  // they come first
  std::int32_t panels = 0;       // left and right
  std::array<Warpgroup, kWarpgroups> of{};
  std::array<std::int32_t, kMaxPanels> start{};  // first column of each panel in dy or x
  /// The live block that slot j makes with stacked line i is block[w][i][j]; −1: none is wanted.
  std::array<std::array<std::array<std::int32_t, kMaxSlots>, kMaxStacked>, kWarpgroups> block{};
  std::array<std::int32_t, 17> unused{};
};
static_assert(sizeof(GradientItem) == 4 * GradientItem::kWords);  // a warp moves 64 at a time

/// All live blocks once, ordered such that items that are made at the same time share panels and
/// take about as long. Items are smaller where there are few blocks and device memory is what
/// binds. `tf32`: for products in tf32, where instructions bind; their items with b = 64 have up to
/// nine panels and are no stars. The index arrays lie on the host; b is 16, 32, 64 or 128.
std::vector<GradientItem> gradient_items(const BsrIndex& index, bool tf32 = false);

/// The items where the kernel reads them.
struct GradientSchedule {
  Tensor items;  // int32 [count, kWords]
  std::int64_t count = 0;
  std::int64_t panels = 0;     // of all items
  std::int64_t most = 0;       // panels of one item
  std::int64_t live_rows = 0;  // block rows with live blocks, and
  std::int64_t live_cols = 0;  // block columns
};

/// The schedule of an index and its items, but for where they are.
GradientSchedule gradient_schedule(std::span<const GradientItem> items, const BsrIndex& index);

}  // namespace hew::kernels::hopper
