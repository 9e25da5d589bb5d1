#include "kernels/bsr_schedule.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "kernels/bsr_long_rows.h"
#include "kernels/bsr_routes.h"
#include "kernels/product_settings.h"

namespace hew::kernels {
namespace {

using Rows = BlockRows;
using Ints = std::vector<std::int32_t>;

constexpr std::int64_t kTileHeight = 128;  // rows that two warpgroups make
constexpr std::int64_t kTallHeight = 256;
constexpr std::int64_t kTallBlock = 32;
// Tall tiles win where the output is at most so wide, in 5 of 8 measured cells, by up to 18 %. Of
// wider ones they lose 30 of 32, by up to 36 %, for a reason that bytes and rows do not tell.
constexpr std::int64_t kTallWidth = 1024;
constexpr std::int64_t kMaxMembers = kTileHeight / 16;
// Words of bits that the search for partners may look at, about; and rows at each step at least.
constexpr std::int64_t kSearchWords = std::int64_t{1} << 19;
constexpr std::int64_t kSearchRows = 32;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// Which columns a row needs, one bit each.
class ColumnSets {
 public:
  explicit ColumnSets(const Rows& rows)
      : words_((rows.width + 63) / 64), bits_(at(rows.count * words_), 0) {
    for (std::int64_t r = 0; r < rows.count; ++r) {
      for (std::int32_t i = rows.begin[r]; i < rows.begin[r + 1]; ++i) {
        bits_[at(r * words_ + rows.columns[i] / 64)] |= std::uint64_t{1} << rows.columns[i] % 64;
      }
    }
  }
  std::int64_t words() const { return words_; }
  std::span<const std::uint64_t> row(std::int64_t r) const {
    return {bits_.data() + r * words_, at(words_)};
  }

 private:
  std::int64_t words_;
  std::vector<std::uint64_t> bits_;
};

int shared_columns(std::span<const std::uint64_t> a, std::span<const std::uint64_t> b) {
  int shared = 0;
  for (std::size_t w = 0; w < a.size(); ++w) shared += std::popcount(a[w] & b[w]);
  return shared;
}

// Rows by descending length, the lower of equals first.
Ints longest_first(const Rows& rows) {
  Ints order(at(rows.count));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return rows.length(a) > rows.length(b); });
  return order;
}

using Group = std::array<std::int32_t, kMaxMembers>;

// Which of the candidates shares most columns with `needed`, the first of equals.
std::size_t best_partner(const ColumnSets& sets, std::span<const std::uint64_t> needed,
                         std::span<const std::int32_t> candidates) {
  std::size_t best = 0;
  int most = -1;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const int shared = shared_columns(needed, sets.row(candidates[i]));
    if (shared > most) {
      most = shared;
      best = i;
    }
  }
  return best;
}

// Greedy: the longest row that has no group yet, with those that share most columns with the group
// so far; where there are many rows, only the next longest are looked at. `order` has the rows, the
// longest first.
std::vector<Group> groups_of(const Rows& rows, Ints order, int members) {
  const ColumnSets sets(rows);
  const auto window = at(
      std::max(kSearchRows, kSearchWords / std::max<std::int64_t>(rows.count * sets.words(), 1)));
  std::span<std::int32_t> waiting(order);
  std::vector<Group> groups;
  std::vector<std::uint64_t> needed;
  while (!waiting.empty()) {
    Group group{};
    group.fill(-1);
    needed.assign(at(sets.words()), 0);
    for (std::size_t m = 0; m < at(members) && !waiting.empty(); ++m) {
      const auto candidates = waiting.first(std::min(waiting.size(), m == 0 ? 1 : window));
      const std::size_t best = best_partner(sets, needed, candidates);
      group[m] = candidates[best];
      const auto columns = sets.row(candidates[best]);
      for (std::size_t w = 0; w < needed.size(); ++w) needed[w] |= columns[w];
      // The rows before it move up, in their order.
      std::rotate(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(best),
                  candidates.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      waiting = waiting.subspan(1);
    }
    groups.push_back(group);
  }
  return groups;
}

// The arrays of RowGroups.
struct Lists {
  int members = 0;
  Ints rows{};
  Ints begin{0};
  Ints columns{};
  Ints positions{};
  Ints parts{};
  int cut_rows = 0;
  int most_parts = 0;

  std::int64_t groups() const { return static_cast<std::int64_t>(begin.size()) - 1; }
};

// Appends a group's rows and steps.
void append(Lists& out, const Rows& rows, const Group& group) {
  std::array<std::int32_t, kMaxMembers> next{};
  std::array<std::int32_t, kMaxMembers> end{};
  for (int m = 0; m < out.members; ++m) {
    const std::int32_t row = group[at(m)];
    out.rows.push_back(row);
    next[at(m)] = row < 0 ? 0 : rows.begin[row];
    end[at(m)] = row < 0 ? 0 : rows.begin[row + 1];
  }
  for (;;) {
    std::int32_t column = static_cast<std::int32_t>(rows.width);
    for (std::size_t m = 0; m < at(out.members); ++m) {
      if (next[m] < end[m])
        column = std::min(column, rows.columns[next[m]]);
    }
    if (column == rows.width)
      break;
    out.columns.push_back(column);
    for (std::size_t m = 0; m < at(out.members); ++m) {
      const bool live = next[m] < end[m] && rows.columns[next[m]] == column;
      const std::int32_t entry = next[m];
      out.positions.push_back(!live ? -1 : rows.position == nullptr ? entry : rows.position[entry]);
      next[m] += live ? 1 : 0;
    }
  }
  out.begin.push_back(static_cast<std::int32_t>(out.columns.size()));
  out.parts.push_back(0);
}

// Appends a row in nearly equal parts, each with a group to itself. A part has every count'th
// block: it goes through the columns beside whole rows, and finds in the cache what they have
// loaded.
void append_parts(Lists& out, const Rows& rows, std::int32_t row, std::int64_t count) {
  for (std::int64_t part = 0; part < count; ++part) {
    out.rows.push_back(row);
    out.rows.insert(out.rows.end(), at(out.members - 1), -1);
    for (std::int64_t i = rows.begin[row] + part; i < rows.begin[row + 1]; i += count) {
      out.columns.push_back(rows.columns[i]);
      out.positions.push_back(rows.position == nullptr ? static_cast<std::int32_t>(i)
                                                       : rows.position[i]);
      out.positions.insert(out.positions.end(), at(out.members - 1), -1);
    }
    out.begin.push_back(static_cast<std::int32_t>(out.columns.size()));
    out.parts.push_back(
        RowPart::of(out.cut_rows, static_cast<int>(part), static_cast<int>(count)).word);
  }
  ++out.cut_rows;
  out.most_parts = std::max(out.most_parts, static_cast<int>(count));
}

// Groups with most steps first.
Lists sorted(const Lists& lists) {
  Ints order(at(lists.groups()));
  std::iota(order.begin(), order.end(), 0);
  auto steps = [&](std::int32_t g) { return lists.begin[at(g) + 1] - lists.begin[at(g)]; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return steps(a) > steps(b); });
  Lists out{.members = lists.members};
  out.cut_rows = lists.cut_rows;
  out.most_parts = lists.most_parts;
  auto copy = [](Ints& to, const Ints& from, std::int64_t begin, std::int64_t end) {
    to.insert(to.end(), from.begin() + begin, from.begin() + end);
  };
  for (const std::int32_t g : order) {
    const std::int64_t begin = lists.begin[at(g)];
    const std::int64_t end = lists.begin[at(g) + 1];
    const std::int64_t m = lists.members;
    copy(out.rows, lists.rows, g * m, (g + 1) * m);
    copy(out.columns, lists.columns, begin, end);
    copy(out.positions, lists.positions, begin * m, end * m);
    out.parts.push_back(lists.parts[at(g)]);
    out.begin.push_back(static_cast<std::int32_t>(out.columns.size()));
  }
  return out;
}

Lists lists_of(const Rows& rows, std::int64_t members, std::int64_t block) {
  Lists out{.members = static_cast<int>(members)};
  const RowCuts cuts(rows, members, block);
  Ints whole;
  for (const std::int32_t row : longest_first(rows)) {
    const std::int64_t parts = cuts.parts(row);
    if (parts > 1 && out.cut_rows < RowCuts::kMostRows)
      append_parts(out, rows, row, parts);
    else
      whole.push_back(row);
  }
  if (members > 1) {
    for (const Group& group : groups_of(rows, std::move(whole), out.members))
      append(out, rows, group);
  } else {
    for (const std::int32_t row : whole) append(out, rows, {row});
  }
  return sorted(out);
}

// The groups without pointers.
RowGroups sizes_of(const Lists& lists) {
  RowGroups groups{.members = lists.members};
  groups.groups = lists.groups();
  groups.steps = static_cast<std::int64_t>(lists.columns.size());
  groups.cut_rows = lists.cut_rows;
  groups.most_parts = lists.most_parts;
  groups.longest = lists.groups() > 0 ? lists.begin[1] : 0;
  while (groups.long_groups < groups.groups) {
    const std::int64_t end = lists.begin[at(groups.long_groups + 1)];
    if (2 * (end - groups.long_steps) * groups.groups <= 3 * groups.steps)
      break;
    groups.long_steps = end;
    ++groups.long_groups;
  }
  return groups;
}

Rows rows_of(const BsrIndex& index) {
  return {.count = index.block_rows(),
          .width = index.block_cols(),
          .elements = index.rows,
          .begin = index.crow,
          .columns = index.col,
          .position = nullptr};
}

Rows columns_of(const BsrIndex& index) {
  return {.count = index.block_cols(),
          .width = index.block_rows(),
          .elements = index.cols,
          .begin = index.ccol,
          .columns = index.row,
          .position = index.position};
}

}  // namespace

bool tall_tiles_may_pay(std::int64_t width) {
  return width <= kTallWidth;
}

// None where none were placed.
RowGroups BsrPlan::Placed::on(const std::int32_t* words) const {
  if (groups.members == 0)
    return {};
  RowGroups out = groups;
  out.rows = words + rows;
  out.begin = words + begin;
  out.columns = words + columns;
  out.positions = words + positions;
  out.parts = groups.cut_rows > 0 ? words + parts : nullptr;
  return out;
}

// Each array from a multiple of 16 bytes on.
std::size_t BsrPlan::add(std::span<const std::int32_t> array) {
  words_.resize((words_.size() + 3) / 4 * 4, 0);
  const std::size_t begin = words_.size();
  words_.insert(words_.end(), array.begin(), array.end());
  return begin;
}

BsrPlan::BsrPlan(const BsrIndex& host, const Stream& stream) {
  require<ShapeError>(has_schedule(host.block),
                      "[bsr_schedule] block is {}, expected 16, 32, 64 or 128", host.block);
  const std::vector<hopper::GradientItem> items =
      hopper::gradient_items(host, stream.state->get<ProductSettings>(stream).tf32);
  gradient_ = hopper::gradient_schedule(items, host);
  words_.resize(items.size() * hopper::GradientItem::kWords);
  if (!items.empty())
    std::memcpy(words_.data(), items.data(), items.size() * sizeof(items.front()));
  auto placed = [&](const Lists& lists) {
    Placed out{.groups = sizes_of(lists)};
    out.rows = add(lists.rows);
    out.begin = add(lists.begin);
    out.columns = add(lists.columns);
    out.positions = add(lists.positions);
    out.parts = lists.cut_rows > 0 ? add(lists.parts) : 0;
    return out;
  };
  const bool tall = stream.state->get<BsrSettings>(stream).tall.value_or(false);
  const std::array<Rows, 2> directions{rows_of(host), columns_of(host)};
  for (std::size_t d = 0; d < 2; ++d) {
    together_[d] = placed(lists_of(directions[d], kTileHeight / host.block, host.block));
    if (host.block == kStripHeight)
      alone_[d] = placed(lists_of(directions[d], 1, host.block));
    else if (host.block == kTileHeight)
      alone_[d] = together_[d];
    if (host.block == kTallBlock && (tall || tall_tiles_may_pay(directions[d].elements)))
      tall_[d] = placed(lists_of(directions[d], kTallHeight / host.block, host.block));
  }
}

BsrSchedule::BsrSchedule(const BsrPlan& plan, const Tensor& words)
    : gradient(plan.gradient_), words_(words) {
  require<ShapeError>(words_.numel() == std::ssize(plan.words()),
                      "[bsr_schedule] {} words, expected {}", words_.numel(), plan.words().size());
  const auto* first = std::as_const(words_).data<std::int32_t>();
  gradient.items = words_.rows(0, gradient.count * hopper::GradientItem::kWords)
                       .reshape({gradient.count, hopper::GradientItem::kWords});
  auto walk = [&](std::size_t d) {
    return BsrWalk{.live_columns = d == 0 ? gradient.live_cols : gradient.live_rows,
                   .together = plan.together_[d].on(first),
                   .alone = plan.alone_[d].on(first),
                   .tall = plan.tall_[d].on(first)};
  };
  by_rows = walk(0);
  by_columns = walk(1);
}

BsrSchedule::BsrSchedule(const BsrIndex& host, const Stream& stream) {
  const BsrPlan plan(host, stream);
  *this = BsrSchedule(plan, Tensor::from(plan.words(), {std::ssize(plan.words())}, stream));
}

bool has_schedule(std::int64_t block) {
  return block == 16 || block == 32 || block == 64 || block == 128;
}

bool wants_schedule(std::int64_t block, const Stream& stream) {
  return !stream.device.is_cpu() && has_schedule(block);
}

std::shared_ptr<const BsrSchedule> schedule_for(const BsrIndex& host, const Stream& stream) {
  if (!wants_schedule(host.block, stream))
    return nullptr;
  return std::make_shared<const BsrSchedule>(host, stream);
}

}  // namespace hew::kernels
