#include "kernels/hopper/mlp_program.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace hew::kernels::hopper {
namespace {

// In the time of a block's product. Bias, activation and the way into shared memory of a hidden
// strip take about as long as three.
constexpr int kMakeCost = 3;
constexpr std::int64_t kMostHiddenStrips = 1 << 16;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

std::int64_t strips_of(std::int64_t features) {
  return (features + kMlpStrip - 1) / kMlpStrip;
}

// Columns of W that a box has.
std::int64_t depth_of(const BsrIndex& index) {
  return std::min<std::int64_t>(index.block, kMlpStrip);
}

// A box of W, 64 rows high.
struct Box {
  std::int64_t column;  // in boxes
  bool right = false;
  std::array<std::int32_t, 2> row{};
};

// Of blocks of 32 and 64, of which each row of a strip has its own.
std::vector<Box> stacked_boxes(const BsrIndex& index, std::int64_t strip) {
  const std::int64_t parts = kMlpStrip / index.block;
  const auto block = static_cast<std::int32_t>(index.block);
  const auto dead = static_cast<std::int32_t>(index.nnzb) * block;
  std::vector<Box> boxes;
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::int64_t row = strip * parts + part;
    if (row >= index.block_rows())
      break;
    for (std::int32_t p = index.crow[row]; p < index.crow[row + 1]; ++p) {
      const std::int64_t column = index.col[p];
      auto box = std::lower_bound(boxes.begin(), boxes.end(), column,
                                  [](const Box& b, std::int64_t c) { return b.column < c; });
      if (box == boxes.end() || box->column != column)
        box = boxes.insert(box, {.column = column, .row = {dead, dead}});
      box->row[at(part)] = p * block;
    }
  }
  return boxes;
}

// Of blocks of 128, which have four each.
std::vector<Box> quarter_boxes(const BsrIndex& index, std::int64_t strip) {
  const std::int64_t row = strip / 2;
  std::vector<Box> boxes;
  for (std::int32_t p = index.crow[row]; p < index.crow[row + 1]; ++p) {
    for (const bool right : {false, true}) {
      const std::int64_t column = 2 * std::int64_t{index.col[p]} + (right ? 1 : 0);
      if (column * kMlpStrip >= index.cols)
        continue;
      const auto first = static_cast<std::int32_t>(p * index.block + strip % 2 * kMlpStrip);
      boxes.push_back({.column = column, .right = right, .row = {first, first}});
    }
  }
  return boxes;
}

std::vector<Box> boxes_of(const BsrIndex& index, std::int64_t strip) {
  return index.block == 2 * kMlpStrip ? quarter_boxes(index, strip) : stacked_boxes(index, strip);
}

std::uint32_t bits(bool set, int place) {
  return static_cast<std::uint32_t>(set ? 1 : 0) << place;
}

MlpOp op_of(MlpOp::Kind kind, int own = 0, std::int64_t source = 0) {
  return {.bits = kind | static_cast<std::uint32_t>(own) << 3 |
                  static_cast<std::uint32_t>(source) << 9};
}

MlpStep box_step(MlpOp op, const Box& box, bool first, bool last) {
  op.bits |= bits(first, 5) | bits(last, 6) | bits(box.right, 8);
  return {.op = op, .strip = 0, .row = box.row};
}

// Blocks of one output strip, or of those that a warpgroup owns, that read a hidden strip.
struct Reads {
  int own;
  Box box;  // its column: within the hidden strip
};
using ReadLists = std::vector<std::vector<Reads>>;  // of each hidden strip

class Planner {
 public:
  Planner(const BsrIndex& up, const BsrIndex& down)
      : up_(up),
        down_(down),
        tile_(std::max(strips_of(up.cols), strips_of(down.rows)) <= kMlpWide.strips() ? kMlpWide
                                                                                      : kMlpNarrow),
        reads_(kMlpWarpgroups, ReadLists(at(strips_of(up.rows)))) {
    out_.tile = tile_;
    for (auto& of_group : out_.strips) of_group.fill(-1);
    share_output();
  }

  MlpProgram make() && {
    const std::vector<std::int64_t> live = live_strips();
    require<ShapeError>(std::ssize(live) < kMostHiddenStrips,
                        "[mlp_program] {} hidden strips, expected fewer than {}", live.size(),
                        kMostHiddenStrips);
    out_.hidden_strips = static_cast<int>(live.size());
    const std::int64_t lag = tile_.lag();
    for (std::int64_t n = 0; n < std::ssize(live) + lag; ++n) {
      if (n < std::ssize(live))
        make_strip(n, live[at(n)]);
      if (n >= lag)
        read_strip(live[at(n - lag)]);
    }
    for (int g = 0; g < kMlpWarpgroups; ++g) finish(g);
    return std::move(out_);
  }

 private:
  struct Group {
    std::vector<MlpStep> steps;
    std::int64_t cost = 0;
    int passes = 0;          // since the last step
    std::int64_t made = -1;  // the last step that made a strip
  };

  // Output strips with most blocks first, each to the warpgroup that has fewest blocks so far.
  void share_output() {
    const std::int64_t count = strips_of(down_.rows);
    std::vector<std::vector<Box>> boxes;
    for (std::int64_t strip = 0; strip < count; ++strip) boxes.push_back(boxes_of(down_, strip));
    std::vector<std::size_t> order(at(count));
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return boxes[a].size() > boxes[b].size();
    });
    std::array<std::size_t, kMlpWarpgroups> load{};
    std::array<int, kMlpWarpgroups> owned{};
    const std::int64_t per_strip = kMlpStrip / depth_of(down_);
    for (const std::size_t strip : order) {
      std::size_t best = kMlpWarpgroups;
      for (std::size_t g = 0; g < kMlpWarpgroups; ++g) {
        if (owned[g] < tile_.own && (best == kMlpWarpgroups || load[g] < load[best]))
          best = g;
      }
      const int own = owned[best]++;
      load[best] += boxes[strip].size() + 1;
      out_.strips[best][at(own)] = static_cast<int>(strip);
      for (Box box : boxes[strip]) {
        const std::int64_t hidden = box.column / per_strip;
        box.column %= per_strip;
        reads_[best][at(hidden)].push_back({.own = own, .box = box});
      }
    }
  }

  // Hidden strips that anybody reads.
  std::vector<std::int64_t> live_strips() const {
    std::vector<std::int64_t> live;
    for (std::int64_t strip = 0; strip < strips_of(up_.rows); ++strip) {
      if (std::any_of(reads_.begin(), reads_.end(),
                      [&](const ReadLists& lists) { return !lists[at(strip)].empty(); }))
        live.push_back(strip);
    }
    return live;
  }

  void add(Group& group, MlpStep step) {
    require<ShapeError>(group.passes <= MlpOp::kMostPasses, "[mlp_program] {} strips passed",
                        group.passes);
    step.op.bits |= static_cast<std::uint32_t>(group.passes) << 15;
    group.passes = 0;
    out_.blocks += step.op.has_block() ? 1 : 0;
    group.steps.push_back(step);
  }

  // By who has had least to do.
  void make_strip(std::int64_t number, std::int64_t place) {
    Group& group =
        *std::min_element(groups_.begin(), groups_.end(),
                          [](const Group& a, const Group& b) { return a.cost < b.cost; });
    const std::vector<Box> boxes = boxes_of(up_, place);
    const auto strip = static_cast<std::uint32_t>(number | place << 16);
    if (boxes.empty())
      add(group, {.op = {.bits = MlpOp::kEmpty | bits(true, 5) | bits(true, 6)}, .strip = strip});
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      MlpStep step =
          box_step(op_of(MlpOp::kUp, 0, boxes[i].column), boxes[i], i == 0, i + 1 == boxes.size());
      step.strip = strip;
      add(group, step);
    }
    group.made = std::ssize(group.steps) - 1;
    group.cost += std::ssize(boxes) + kMakeCost;
  }

  void read_strip(std::int64_t place) {
    for (std::size_t g = 0; g < kMlpWarpgroups; ++g) {
      const std::vector<Reads>& reads = reads_[g][at(place)];
      if (reads.empty())
        ++groups_[g].passes;
      for (std::size_t i = 0; i < reads.size(); ++i) {
        const Reads& read = reads[i];
        add(groups_[g], box_step(op_of(MlpOp::kDown, read.own, read.box.column), read.box, i == 0,
                                 i + 1 == reads.size()));
      }
      groups_[g].cost += std::ssize(reads);
    }
  }

  void finish(int g) {
    Group& group = groups_[at(g)];
    for (int own = 0; own < tile_.own && out_.strips[at(g)][at(own)] >= 0; ++own) {
      for (int part = 0; part < tile_.writes(); ++part)
        add(group, {.op = op_of(MlpOp::kWrite, own, part)});
    }
    add(group, {.op = op_of(MlpOp::kEnd)});
    MlpStep& frees = group.made < 0 ? group.steps.back() : group.steps[at(group.made)];
    frees.op.bits |= bits(/*set=*/true, 7);
    out_.steps.insert(out_.steps.end(), group.steps.begin(), group.steps.end());
    out_.begin[at(g + 1)] = static_cast<int>(out_.steps.size());
  }

  const BsrIndex& up_;
  const BsrIndex& down_;
  MlpTile tile_;
  std::vector<ReadLists> reads_;  // of each warpgroup
  std::array<Group, kMlpWarpgroups> groups_{};
  MlpProgram out_;
};

}  // namespace

bool has_mlp_program(const BsrIndex& up, const BsrIndex& down) {
  constexpr std::int64_t kMostRows = std::numeric_limits<std::int32_t>::max() / 2;
  const std::int64_t b = up.block;
  const auto fits = [](std::int64_t features) {
    return features > 0 && strips_of(features) <= kMlpNarrow.strips();
  };
  const auto has_blocks = [b](const BsrIndex& index) {
    return index.nnzb > 0 && (index.nnzb + 1) * b < kMostRows;
  };
  return (b == 32 || b == 64 || b == 128) && down.block == b && down.cols == up.rows &&
         fits(up.cols) && fits(down.rows) && strips_of(up.rows) < kMostHiddenStrips &&
         has_blocks(up) && has_blocks(down);
}

MlpProgram mlp_program(const BsrIndex& up, const BsrIndex& down) {
  require<ShapeError>(has_mlp_program(up, down),
                      "[mlp_program] no kernel for [{}, {}] and [{}, {}] in blocks of {} and {}",
                      up.rows, up.cols, down.rows, down.cols, up.block, down.block);
  return Planner(up, down).make();
}

}  // namespace hew::kernels::hopper
