#include "kernels/hopper/gradient_items.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>

#include "kernels/hopper/gradient_bundles.h"

namespace hew::kernels::hopper {
namespace {

// How panels fill a stage of shared memory at one block size.
struct Limits {
  int stacked;  // lines of blocks in one left operand: 1, 2 or 4
  int slots;    // right panels of one warpgroup
  int panels;   // of an item
  int rounds;   // of matching; two stacked lines together share too little for any
  bool stars;   // whether items may be stars
};

// Items of a level have half the slots of those before it.
Limits limits_of(std::int64_t block, int level, bool tf32) {
  if (block == 16)
    return {.stacked = 4, .slots = 16 >> level, .panels = 36, .rounds = 0, .stars = false};
  if (block == 32)
    return {.stacked = 2, .slots = 8 >> level, .panels = 18, .rounds = 0, .stars = false};
  if (tf32)
    return {.stacked = 1, .slots = 4 >> level, .panels = 9, .rounds = 4, .stars = false};
  return {.stacked = 1, .slots = 4 >> level, .panels = 7, .rounds = 8, .stars = level == 0};
}

// An item before it is written down: warpgroup w works for bundle source[w] on own[w] and, where
// they are two bundles, on what both share.
struct Draft {
  std::array<int, 2> source{0, 0};
  std::array<std::vector<Place>, 2> own{};
  std::vector<Place> shared{};
};

// The run i of k nearly equal runs of a list.
std::vector<Place> run(const std::vector<Place>& all, std::size_t k, std::size_t i) {
  const auto at = [&](std::size_t r) {
    return all.begin() + static_cast<std::ptrdiff_t>(all.size() * r / k);
  };
  return {at(i), at(i + 1)};
}

// Moves the first n to the caller.
std::vector<Place> taken_from(std::vector<Place>& all, std::size_t n) {
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(n);
  std::vector<Place> out(all.begin(), end);
  all.erase(all.begin(), end);
  return out;
}

// Cuts the places of two bundles into items with few panels.
class Cutter {
 public:
  explicit Cutter(const Limits& limits) : limits_(limits) {}

  std::vector<Draft> cut(const std::vector<Place>& places) const {
    std::vector<Draft> apart = sharing_none(all_in(places, 0), all_in(places, 1));
    std::vector<Draft> together = sharing(places);
    return panels(together) <= panels(apart) ? together : apart;
  }

 private:
  static std::vector<Place> all_in(const std::vector<Place>& places, int bundle) {
    std::vector<Place> out;
    std::copy_if(places.begin(), places.end(), std::back_inserter(out),
                 [&](const Place& place) { return place.in(bundle); });
    return out;
  }

  std::size_t panels(const std::vector<Draft>& drafts) const {
    std::size_t sum = 0;
    for (const Draft& d : drafts) {
      const int bundles = d.source[0] == d.source[1] ? 1 : 2;
      sum += static_cast<std::size_t>(bundles * limits_.stacked) + d.own[0].size() +
             d.own[1].size() + d.shared.size();
    }
    return sum;
  }

  // Both warpgroups on one bundle.
  void alone(const std::vector<Place>& places, int bundle, std::vector<Draft>& out) const {
    const auto most =
        static_cast<std::size_t>(std::min(2 * limits_.slots, limits_.panels - limits_.stacked));
    const std::size_t count = (places.size() + most - 1) / most;
    for (std::size_t i = 0; i < count; ++i) {
      const std::vector<Place> part = run(places, count, i);
      out.push_back({.source = {bundle, bundle}, .own = {run(part, 2, 1), run(part, 2, 0)}});
    }
  }

  std::vector<Draft> sharing_none(const std::vector<Place>& a, const std::vector<Place>& b) const {
    std::vector<Draft> out;
    const auto slots = static_cast<std::size_t>(limits_.slots);
    const auto room = static_cast<std::size_t>(limits_.panels - 2 * limits_.stacked);
    if (!a.empty() && !b.empty() && a.size() <= slots && b.size() <= slots &&
        a.size() + b.size() <= room) {
      out.push_back({.source = {0, 1}, .own = {a, b}});
      return out;
    }
    alone(a, 0, out);
    alone(b, 1, out);
    return out;
  }

  std::vector<Draft> sharing(const std::vector<Place>& places) const {
    std::vector<Place> shared;
    std::array<std::vector<Place>, 2> own;
    for (const Place& place : places) {
      (place.in(0) && place.in(1) ? shared : own[place.in(0) ? 0 : 1]).push_back(place);
    }
    const auto slots = static_cast<std::size_t>(limits_.slots);
    const std::size_t count = (shared.size() + slots - 1) / slots;
    std::vector<Draft> out;
    for (std::size_t i = 0; i < count; ++i) {
      Draft draft{.source = {0, 1}, .shared = run(shared, count, i)};
      const std::size_t n = draft.shared.size();
      const std::size_t room = static_cast<std::size_t>(limits_.panels - 2 * limits_.stacked) - n;
      std::array<std::size_t, 2> more{std::min(slots - n, own[0].size()),
                                      std::min(slots - n, own[1].size())};
      while (more[0] + more[1] > room) --more[more[0] >= more[1] ? 0 : 1];
      draft.own = {taken_from(own[0], more[0]), taken_from(own[1], more[1])};
      out.push_back(std::move(draft));
    }
    std::vector<Draft> rest = sharing_none(own[0], own[1]);
    std::move(rest.begin(), rest.end(), std::back_inserter(out));
    return out;
  }

  Limits limits_;
};

GradientItem empty_item(bool transposed) {
  GradientItem item;
  item.transposed = transposed ? 1 : 0;
  for (auto& lines : item.block) {
    for (auto& slots : lines) slots.fill(-1);
  }
  return item;
}

void add_panel(GradientItem& item, std::int64_t start) {
  item.start[static_cast<std::size_t>(item.panels++)] = static_cast<std::int32_t>(start);
}

// Four places of a line, the hub: one line has two of them, another the other two. Seven panels
// make eight blocks, with hub and spokes on the left.
struct Star {
  std::size_t hub = 0;
  std::array<std::size_t, 2> spoke{};
  std::array<std::int32_t, 4> across{};  // the first two are those of spoke 0
};

// Writes down items of blocks of one panel, b < 128.
class Writer {
 public:
  Writer(const BsrIndex& index, bool transposed, int stacked)
      : block_(index.block),
        outside_((transposed ? index.block_cols() : index.block_rows()) * index.block),
        stacked_(stacked),
        transposed_(transposed) {}

  GradientItem written(const Draft& draft, const std::array<const Bundle*, 2>& bundles) const {
    GradientItem item = empty_item(transposed_);
    const bool two = draft.source[0] != draft.source[1];
    for (std::size_t w = 0; w < (two ? 2U : 1U); ++w) {
      item.of[w].left.fill(item.panels);
      add_left(item, *bundles[static_cast<std::size_t>(draft.source[w])]);
    }
    if (!two)
      item.of[1].left = item.of[0].left;
    item.left_panels = item.panels;
    item.of[0].right = item.panels;
    add_right(item, draft, {0}, draft.own[0]);
    item.of[1].right = item.panels;
    add_right(item, draft, {0, 1}, draft.shared);
    add_right(item, draft, {1}, draft.own[1]);
    return item;
  }

  GradientItem written(const Star& star, const std::vector<Bundle>& bundles) const {
    GradientItem item = empty_item(transposed_);
    for (const std::size_t i : {star.hub, star.spoke[0], star.spoke[1]}) add_left(item, bundles[i]);
    item.left_panels = item.panels;
    item.of[0] = {.left = {0, 0}, .right = item.panels, .slots = 4};
    item.of[1] = {.left = {1, 2}, .right = item.panels, .slots = 4};
    for (std::size_t i = 0; i < star.across.size(); ++i) {
      add_panel(item, star.across[i] * block_);
      item.block[0][0][i] = block_at(bundles[star.hub], star.across[i]);
      item.block[1][0][i] = block_at(bundles[star.spoke[i / 2]], star.across[i]);
    }
    return item;
  }

 private:
  static std::int32_t block_at(const Bundle& bundle, std::int32_t across) {
    return std::ranges::lower_bound(bundle.places, across, {}, &Place::across)->block[0][0];
  }

  // A line that is missing lies outside the matrix, where TMA reads zeros.
  void add_left(GradientItem& item, const Bundle& bundle) const {
    for (std::size_t i = 0; i < static_cast<std::size_t>(stacked_); ++i) {
      add_panel(item, bundle.line[i] < 0 ? outside_ : bundle.line[i] * block_);
    }
  }

  void add_right(GradientItem& item, const Draft& draft, std::initializer_list<std::size_t> groups,
                 const std::vector<Place>& places) const {
    for (const Place& place : places) {
      add_panel(item, place.across * block_);
      for (const std::size_t w : groups) {
        const auto slot = static_cast<std::size_t>(item.of[w].slots++);
        const auto& blocks = place.block[static_cast<std::size_t>(draft.source[w])];
        for (std::size_t i = 0; i < blocks.size(); ++i) item.block[w][i][slot] = blocks[i];
      }
    }
  }

  std::int64_t block_;
  std::int64_t outside_;
  int stacked_;
  bool transposed_;
};

// Blocks that the thread blocks of a GPU make at a time, about.
constexpr double kThreadBlocks = 132;

// Windows across the lines: as many lines as are worked on at a time shall be about as many as the
// places across that they need, so that both stay in the second-level cache.
std::int64_t windows(const BsrIndex& index, const Lines& lines, double item_blocks) {
  const auto count = static_cast<double>(lines.live.size());
  const auto width = static_cast<double>(lines.width);
  const double density = static_cast<double>(index.nnzb) / (count * width);
  const double area = kThreadBlocks * item_blocks / density;
  const double side = std::max({std::sqrt(area), area / count, item_blocks / density});
  return std::max<std::int64_t>(1, std::llround(width / side));
}

// Takes full runs of places that two bundles share out of both: the items with the fewest panels.
// Removes what it takes; false if there was none.
bool take_shared(Bundle& a, Bundle& b, const Limits& limits, const Writer& writer,
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

// Bounds the time for matrices of thousands of lines.
constexpr std::size_t kCandidates = 256;

// Two of the places that hub and spoke share: those that the other spoke lacks come first.
std::array<std::int32_t, 2> pair_of(const PlaceSets& sets, const Star& star) {
  std::vector<std::int32_t> places = sets.places_shared(star.hub, star.spoke[0]);
  std::stable_partition(places.begin(), places.end(),
                        [&](std::int32_t across) { return !sets.has(star.spoke[1], across); });
  return {places[0], places[1]};
}

// The star around a line whose spokes share most with it.
std::optional<Star> star_around(const PlaceSets& sets, std::size_t hub) {
  Star star{.hub = hub};
  auto best = [&](auto&& shared) -> std::optional<std::size_t> {
    std::optional<std::size_t> found;
    int most = 1;
    for (std::size_t i = 1; i < std::min(sets.size(), kCandidates); ++i) {
      const std::size_t j = (hub + i) % sets.size();
      const int n = shared(j);
      if (n > most) {
        most = n;
        found = j;
      }
    }
    return found;
  };
  const auto first = best([&](std::size_t j) { return sets.shared(hub, j); });
  if (!first)
    return {};
  star.spoke[0] = *first;
  const auto second = best([&](std::size_t j) {
    if (j == *first)
      return 0;
    const int taken = std::max(0, 2 - sets.shared_without(hub, *first, j));
    return sets.shared(hub, j) - taken;
  });
  if (!second)
    return {};
  star.spoke[1] = *second;
  const std::array<std::int32_t, 2> pair = pair_of(sets, star);
  std::vector<std::int32_t> others = sets.places_shared(hub, *second);
  std::erase_if(others, [&pair](std::int32_t across) {
    return std::ranges::find(pair, across) != pair.end();
  });
  star.across = {pair[0], pair[1], others[0], others[1]};
  return star;
}

// Removes what it takes.
void take_stars(std::vector<Bundle>& bundles, std::int64_t width, const Writer& writer,
                std::vector<GradientItem>& out) {
  PlaceSets sets(bundles, width);
  for (std::size_t hub = 0; hub < sets.size(); ++hub) {
    while (const std::optional<Star> star = star_around(sets, hub)) {
      out.push_back(writer.written(*star, bundles));
      for (std::size_t i = 0; i < star->across.size(); ++i) {
        sets.remove(hub, star->across[i]);
        sets.remove(star->spoke[i / 2], star->across[i]);
      }
    }
  }
  for (std::size_t i = 0; i < bundles.size(); ++i) {
    std::erase_if(bundles[i].places,
                  [&](const Place& place) { return !sets.has(i, place.across); });
  }
}

// In each round a bundle has another partner.
std::vector<GradientItem> items_of_window(std::vector<Bundle> bundles, const Limits& limits,
                                          std::int64_t width, const Writer& writer) {
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
  if (limits.stars)
    take_stars(bundles, width, writer, out);
  const Cutter cutter(limits);
  const Bundle none;
  for (const auto& [first, second] : pairs_by_overlap(bundles, width)) {
    const Bundle& a = bundles[static_cast<std::size_t>(first)];
    const Bundle& b = second < 0 ? none : bundles[static_cast<std::size_t>(second)];
    for (const Draft& draft : cutter.cut(side_by_side(a, b)))
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
  const Limits limits = limits_of(index.block, level, tf32);
  const Writer writer(index, lines.transposed, limits.stacked);
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
