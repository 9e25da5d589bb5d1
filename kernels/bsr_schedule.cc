#include "kernels/bsr_schedule.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace hew::kernels {
namespace {

using Ints = std::vector<std::int32_t>;

constexpr std::int64_t kTileHeight = 128;  // rows that two warpgroups make
constexpr std::int64_t kStripHeight = 64;  // rows that one makes
constexpr std::int64_t kMaxMembers = kTileHeight / 32;
// Words of bits that the search for partners may look at, about; and rows at each step at least.
constexpr std::int64_t kSearchWords = std::int64_t{1} << 19;
constexpr std::int64_t kSearchRows = 32;

constexpr std::int64_t kGradientOnly = 16;  // has no kernel for the other products

bool has_kernel(std::int64_t block) {
  return block == kGradientOnly || block == 32 || block == 64 || block == 128;
}

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// One direction of an index: its rows' live blocks, by ascending column.
struct Rows {
  std::int64_t count;
  std::int64_t width;
  const std::int32_t* begin;     // [count + 1]
  const std::int32_t* columns;   // [nnzb]
  const std::int32_t* position;  // [nnzb] or null: as they come

  std::int64_t length(std::int64_t row) const { return begin[row + 1] - begin[row]; }
};

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
// so far; where there are many rows, only the next longest are looked at.
std::vector<Group> groups_of(const Rows& rows, int members) {
  const ColumnSets sets(rows);
  const auto window = at(
      std::max(kSearchRows, kSearchWords / std::max<std::int64_t>(rows.count * sets.words(), 1)));
  Ints order = longest_first(rows);
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
}

// Groups with most steps first.
Lists sorted(const Lists& lists) {
  Ints order(at(lists.groups()));
  std::iota(order.begin(), order.end(), 0);
  auto steps = [&](std::int32_t g) { return lists.begin[at(g) + 1] - lists.begin[at(g)]; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return steps(a) > steps(b); });
  Lists out{.members = lists.members};
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
    out.begin.push_back(static_cast<std::int32_t>(out.columns.size()));
  }
  return out;
}

Lists lists_of(const Rows& rows, std::int64_t members) {
  Lists out{.members = static_cast<int>(members)};
  if (members == 1) {
    for (const std::int32_t row : longest_first(rows)) append(out, rows, {row});
    return out;
  }
  for (const Group& group : groups_of(rows, out.members)) append(out, rows, group);
  return sorted(out);
}

// Arrays of int32 one behind the other, each from a multiple of 16 bytes on.
class Packed {
 public:
  // Where the array begins.
  std::size_t add(const Ints& array) {
    values_.resize((values_.size() + 3) / 4 * 4, 0);
    const std::size_t begin = values_.size();
    values_.insert(values_.end(), array.begin(), array.end());
    return begin;
  }
  Tensor upload(const Stream& stream) const {
    return Tensor::from(values_, {static_cast<std::int64_t>(values_.size())}, stream);
  }

 private:
  Ints values_;
};

struct Placed {
  RowGroups groups{};  // without pointers
  std::size_t rows = 0;
  std::size_t begin = 0;
  std::size_t columns = 0;
  std::size_t positions = 0;

  RowGroups on(const std::int32_t* arrays) const {
    RowGroups out = groups;
    out.rows = arrays + rows;
    out.begin = arrays + begin;
    out.columns = arrays + columns;
    out.positions = arrays + positions;
    return out;
  }
};

Placed place(Packed& packed, const Lists& lists) {
  RowGroups groups{.members = lists.members};
  groups.groups = lists.groups();
  groups.steps = static_cast<std::int64_t>(lists.columns.size());
  groups.longest = lists.groups() > 0 ? lists.begin[1] : 0;
  while (groups.long_groups < groups.groups) {
    const std::int64_t end = lists.begin[at(groups.long_groups + 1)];
    if (2 * (end - groups.long_steps) * groups.groups <= 3 * groups.steps)
      break;
    groups.long_steps = end;
    ++groups.long_groups;
  }
  return {.groups = groups,
          .rows = packed.add(lists.rows),
          .begin = packed.add(lists.begin),
          .columns = packed.add(lists.columns),
          .positions = packed.add(lists.positions)};
}

}  // namespace

BsrSchedule::BsrSchedule(const BsrIndex& host, const Stream& stream)
    : gradient(hopper::gradient_schedule(host, stream)) {
  require<ShapeError>(has_kernel(host.block),
                      "[bsr_schedule] block is {}, expected 16, 32, 64 or 128", host.block);
  if (host.block == kGradientOnly)
    return;
  const std::array<Rows, 2> directions{Rows{.count = host.block_rows(),
                                            .width = host.block_cols(),
                                            .begin = host.crow,
                                            .columns = host.col,
                                            .position = nullptr},
                                       Rows{.count = host.block_cols(),
                                            .width = host.block_rows(),
                                            .begin = host.ccol,
                                            .columns = host.row,
                                            .position = host.position}};
  Packed packed;
  std::array<Placed, 2> together;
  std::array<Placed, 2> alone;
  for (std::size_t d = 0; d < 2; ++d) {
    together[d] = place(packed, lists_of(directions[d], kTileHeight / host.block));
    if (host.block == kStripHeight)
      alone[d] = place(packed, lists_of(directions[d], 1));
    else if (host.block == kTileHeight)
      alone[d] = together[d];
  }
  arrays_ = packed.upload(stream);
  const auto* arrays = std::as_const(arrays_).data<std::int32_t>();
  auto walk = [&](std::size_t d) {
    return BsrWalk{.together = together[d].on(arrays),
                   .alone = host.block >= kStripHeight ? alone[d].on(arrays) : RowGroups{}};
  };
  by_rows = walk(0);
  by_columns = walk(1);
}

bool wants_schedule(std::int64_t block, const Stream& stream) {
  return !stream.device.is_cpu() && has_kernel(block);
}

std::shared_ptr<const BsrSchedule> schedule_for(const BsrIndex& host, const Stream& stream) {
  if (!wants_schedule(host.block, stream))
    return nullptr;
  return std::make_shared<const BsrSchedule>(host, stream);
}

}  // namespace hew::kernels
