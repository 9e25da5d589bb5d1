#include "kernels/hopper/gradient_wide_items.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/hopper/gradient_bundles.h"
#include "kernels/hopper/gradient_writer.h"

namespace hew::kernels::hopper {
namespace {

// Two blocks of 128 that share a block row, or where transposed a block column, or one block. Both
// warpgroups take all of the right operand and one half of the left one.
struct Wide {
  bool transposed = false;
  std::int64_t line = 0;
  std::array<Live, 2> live{};
  int count = 0;
};

GradientItem written(const Wide& wide) {
  constexpr std::int64_t kBlock = 128;
  constexpr std::int64_t kPanel = 64;
  GradientItem item = empty_item(wide.transposed);
  for (const std::int64_t half : {0, 1}) add_panel(item, wide.line * kBlock + half * kPanel);
  item.left_panels = item.panels;
  for (int j = 0; j < wide.count; ++j) {
    const Live& live = wide.live[static_cast<std::size_t>(j)];
    for (const std::int64_t half : {0, 1}) {
      const auto slot = static_cast<std::size_t>(item.panels - item.left_panels);
      for (auto& lines : item.block) lines[0][slot] = live.block;
      add_panel(item, live.across * kBlock + half * kPanel);
    }
  }
  for (std::int32_t w = 0; w < GradientItem::kWarpgroups; ++w) {
    item.of[static_cast<std::size_t>(w)] = {
        .left = {w, w}, .right = item.left_panels, .slots = item.panels - item.left_panels};
  }
  return item;
}

}  // namespace

// Pairs in each row; what is left of two rows makes a pair where it lies in the same column.
std::vector<GradientItem> wide_items(const BsrIndex& index) {
  const Lines rows = lines_of(index, /*transposed=*/false);
  const std::int64_t count = windows(index, rows, 2);
  std::vector<GradientItem> out;
  for (std::int64_t i = 0; i < count; ++i) {
    // The block left over in each column, in the row `across`.
    std::vector<Live> left(static_cast<std::size_t>(rows.width), {.across = -1, .block = -1});
    for (std::size_t r = 0; r < rows.live.size(); ++r) {
      const auto line = static_cast<std::int64_t>(r);
      const std::span<const Live> inside =
          within(rows.live[r], rows.width * i / count, rows.width * (i + 1) / count);
      std::vector<Live> live(inside.begin(), inside.end());
      if (live.size() % 2 == 1) {
        const auto matched = std::find_if(live.begin(), live.end(), [&](const Live& block) {
          return left[static_cast<std::size_t>(block.across)].block >= 0;
        });
        const auto odd = matched == live.end() ? live.end() - 1 : matched;
        Live& waiting = left[static_cast<std::size_t>(odd->across)];
        const Live own{.across = static_cast<std::int32_t>(r), .block = odd->block};
        if (matched != live.end()) {
          out.push_back(written(
              {.transposed = true, .line = odd->across, .live = {waiting, own}, .count = 2}));
          waiting = {.across = -1, .block = -1};
        } else {
          waiting = own;
        }
        live.erase(odd);
      }
      for (std::size_t j = 0; j < live.size(); j += 2) {
        out.push_back(written({.line = line, .live = {live[j], live[j + 1]}, .count = 2}));
      }
    }
    for (std::size_t c = 0; c < left.size(); ++c) {
      if (left[c].block >= 0) {
        out.push_back(written({.transposed = true,
                               .line = static_cast<std::int64_t>(c),
                               .live = {left[c]},
                               .count = 1}));
      }
    }
  }
  return out;
}

std::vector<GradientItem> single_items(const BsrIndex& index) {
  const Lines rows = lines_of(index, /*transposed=*/false);
  std::vector<GradientItem> out;
  for (std::size_t r = 0; r < rows.live.size(); ++r) {
    for (const Live& live : rows.live[r]) {
      out.push_back(
          written({.line = static_cast<std::int64_t>(r), .live = {live, live}, .count = 1}));
    }
  }
  return out;
}

}  // namespace hew::kernels::hopper
