#include "kernels/hopper/gradient_items.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/hopper/gradient_bundles.h"
#include "kernels/hopper/gradient_drafts.h"
#include "kernels/hopper/gradient_stars.h"
#include "kernels/hopper/gradient_wide_items.h"
#include "kernels/hopper/gradient_writer.h"

namespace hew::kernels::hopper {
namespace {

// Items of a level have half the slots of those before it.
GradientLimits limits_of(std::int64_t block, int level, bool tf32) {
  if (block == 16)
    return {.stacked = 4, .slots = 16 >> level, .panels = 36, .rounds = 0, .stars = false};
  if (block == 32)
    return {.stacked = 2, .slots = 8 >> level, .panels = 18, .rounds = 0, .stars = false};
  if (tf32)
    return {.stacked = 1, .slots = 4 >> level, .panels = 9, .rounds = 4, .stars = false};
  return {.stacked = 1, .slots = 4 >> level, .panels = 7, .rounds = 8, .stars = level == 0};
}

// Takes full runs of places that two bundles share out of both: the items with the fewest panels.
// Removes what it takes; false if there was none.
bool take_shared(Bundle& a, Bundle& b, const GradientLimits& limits, const GradientWriter& writer,
                 std::vector<GradientItem>& out) {
  const auto slots = static_cast<std::size_t>(limits.slots);
  std::vector<Place> both = side_by_side(a, b);
  std::erase_if(both, [](const Place& place) { return !place.in(0) || !place.in(1); });
  const std::size_t full = both.size() / slots;
  both.resize(full * slots);
  for (std::size_t i = 0; i < full; ++i) {
    out.push_back(writer.written({.source = {0, 1}, .shared = run(both, full, i)}, {&a, &b}));
  }
  remove(both, a.places);
  remove(both, b.places);
  return full > 0;
}

// In each round a bundle has another partner.
std::vector<GradientItem> items_of_window(std::vector<Bundle> bundles, const GradientLimits& limits,
                                          std::int64_t width, const GradientWriter& writer) {
  std::vector<GradientItem> out;
  bool found = true;
  for (int round = 0; found && round < limits.rounds; ++round) {
    found = false;
    for (const auto& [first, second] : pairs_by_overlap(bundles, width)) {
      found |= second >= 0 &&
               take_shared(bundles[static_cast<std::size_t>(first)],
                           bundles[static_cast<std::size_t>(second)], limits, writer, out);
    }
  }
  if (limits.stars) {
    const std::vector<GradientStar> stars = stars_of(bundles, width);
    for (const GradientStar& star : stars) out.push_back(writer.written(star, bundles));
    remove(stars, bundles);
  }
  const Bundle none;
  for (const auto& [first, second] : pairs_by_overlap(bundles, width)) {
    const Bundle& a = bundles[static_cast<std::size_t>(first)];
    const Bundle& b = second < 0 ? none : bundles[static_cast<std::size_t>(second)];
    for (const GradientDraft& draft : drafts_of(side_by_side(a, b), limits))
      out.push_back(writer.written(draft, {&a, &b}));
  }
  // Items of one size keep step with each other, so that what they share is still in the cache when
  // the second of them needs it; and the smallest come last.
  std::stable_sort(out.begin(), out.end(), [](const GradientItem& a, const GradientItem& b) {
    return a.panels != b.panels ? a.panels > b.panels : a.start[0] < b.start[0];
  });
  return out;
}

// Of the windows from `first` on, up to `most` of them.
std::vector<GradientItem> items_of_windows(const BsrIndex& index, const Lines& lines, int level,
                                           bool tf32, std::int64_t first, std::int64_t most) {
  const GradientLimits limits = limits_of(index.block, level, tf32);
  const GradientWriter writer(index, lines.transposed, limits.stacked);
  std::vector<GradientItem> out;
  const std::int64_t count = windows(index, lines, 2.0 * limits.slots);
  for (std::int64_t i = first; i < std::min(count, first + most); ++i) {
    std::vector<Bundle> bundles =
        bundles_within(lines, lines.width * i / count, lines.width * (i + 1) / count);
    for (int height = 1; height < limits.stacked; height *= 2)
      bundles = stacked(std::move(bundles), static_cast<std::size_t>(height), lines.width);
    const auto items = items_of_window(std::move(bundles), limits, lines.width, writer);
    out.insert(out.end(), items.begin(), items.end());
  }
  return out;
}

std::int64_t total_panels(std::span<const GradientItem> items) {
  std::int64_t sum = 0;
  for (const GradientItem& item : items) sum += item.panels;
  return sum;
}

double panels_per_block(const std::vector<GradientItem>& items) {
  std::int64_t blocks = 0;
  for (const GradientItem& item : items) {
    for (const auto& lines : item.block) {
      for (const auto& slots : lines)
        blocks += std::count_if(slots.begin(), slots.end(), [](auto block) { return block >= 0; });
    }
  }
  return static_cast<double>(total_panels(items)) /
         static_cast<double>(std::max<std::int64_t>(blocks, 1));
}

std::vector<GradientItem> items_of_level(const BsrIndex& index, int level, bool tf32) {
  if (index.block == 128)
    return level == 0 ? wide_items(index) : single_items(index);
  // The first window tells which direction shares more.
  const Lines rows = lines_of(index, /*transposed=*/false);
  const Lines cols = lines_of(index, /*transposed=*/true);
  std::vector<GradientItem> by_rows = items_of_windows(index, rows, level, tf32, 0, 1);
  std::vector<GradientItem> by_cols = items_of_windows(index, cols, level, tf32, 0, 1);
  const bool transposed = panels_per_block(by_cols) < panels_per_block(by_rows);
  std::vector<GradientItem> items = transposed ? std::move(by_cols) : std::move(by_rows);
  const std::vector<GradientItem> others = items_of_windows(
      index, transposed ? cols : rows, level, tf32, 1, index.block_rows() + index.block_cols());
  items.insert(items.end(), others.begin(), others.end());
  return items;
}

std::int64_t lines_with_blocks(const std::int32_t* begin, std::int64_t count) {
  std::int64_t live = 0;
  for (std::int64_t i = 0; i < count; ++i) live += begin[i + 1] > begin[i] ? 1 : 0;
  return live;
}

// Of device memory and of the way from L2 into shared memory, in bytes a nanosecond.
constexpr double kMemoryRate = 3000;
constexpr double kSharedRate = 7800;

// Whether items of so many panels wait for device memory rather than for the way from L2.
bool wait_for_memory(const BsrIndex& index, std::int64_t panels) {
  const std::int64_t columns = (lines_with_blocks(index.crow, index.block_rows()) +
                                lines_with_blocks(index.ccol, index.block_cols())) *
                               index.block;
  const std::int64_t loaded = panels * std::min<std::int64_t>(index.block, 64);
  constexpr double kMargin = 0.75;
  return static_cast<double>(loaded) / kSharedRate <
         kMargin * static_cast<double>(columns) / kMemoryRate;
}

}  // namespace

// Fewer and larger items than a GPU has thread blocks would be cut into more ranges of tokens, and
// each range has sums of its own to be written, read and added.
std::vector<GradientItem> gradient_items(const BsrIndex& index, bool tf32) {
  if (index.nnzb == 0)
    return {};
  std::vector<GradientItem> items = items_of_level(index, 0, tf32);
  const int levels = index.block == 128 ? 2 : 3;
  for (int level = 1; level < levels; ++level) {
    if (static_cast<double>(items.size()) > kThreadBlocks / 2)
      break;
    std::vector<GradientItem> smaller = items_of_level(index, level, tf32);
    if (!wait_for_memory(index, total_panels(smaller)))
      break;
    items = std::move(smaller);
  }
  return items;
}

GradientSchedule gradient_schedule(std::span<const GradientItem> items, const BsrIndex& index) {
  GradientSchedule out{.items = {},
                       .count = std::ssize(items),
                       .panels = total_panels(items),
                       .live_rows = lines_with_blocks(index.crow, index.block_rows()),
                       .live_cols = lines_with_blocks(index.ccol, index.block_cols())};
  for (const GradientItem& item : items) out.most = std::max<std::int64_t>(out.most, item.panels);
  return out;
}

}  // namespace hew::kernels::hopper
