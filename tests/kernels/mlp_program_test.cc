#include "kernels/hopper/mlp_program.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/block_pattern.h"

/// The kernel's warps as actors that advance in any order, with barriers that have phases and
/// parities like those in shared memory, and one token a tile.

namespace hew {
namespace {

using kernels::hopper::has_mlp_program;
using kernels::hopper::kMlpWarpgroups;
using kernels::hopper::mlp_program;
using kernels::hopper::MlpOp;
using kernels::hopper::MlpProgram;
using kernels::hopper::MlpStep;
using test::BlockPattern;
using test::make_pattern;
using test::random_pattern;

using Values = std::vector<double>;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

Values random_values(std::int64_t count, std::uint64_t seed) {
  Values out(at(count));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = uniform(seed, 7, i) - 0.5;
  return out;
}

// W's values, zero in the padding.
Values values_of(const BlockPattern& p, std::uint64_t seed) {
  Values out = random_values(p.nnzb() * p.block * p.block, seed);
  for (std::size_t r = 0; r + 1 < p.crow.size(); ++r) {
    for (std::int64_t n = p.crow[r]; n < p.crow[r + 1]; ++n) {
      for (std::int64_t i = 0; i < p.block * p.block; ++i) {
        const std::int64_t row = static_cast<std::int64_t>(r) * p.block + i / p.block;
        const std::int64_t col = p.col[at(n)] * p.block + i % p.block;
        if (row >= p.rows || col >= p.cols)
          out[at(n * p.block * p.block + i)] = 0;
      }
    }
  }
  return out;
}

Values product(const BlockPattern& p, const Values& values, const Values& x) {
  Values y(at(p.rows), 0);
  for (std::size_t r = 0; r + 1 < p.crow.size(); ++r) {
    for (std::int64_t n = p.crow[r]; n < p.crow[r + 1]; ++n) {
      for (std::int64_t i = 0; i < p.block * p.block; ++i) {
        const std::int64_t row = static_cast<std::int64_t>(r) * p.block + i / p.block;
        const std::int64_t col = p.col[at(n)] * p.block + i % p.block;
        if (row < p.rows && col < p.cols)
          y[at(row)] += values[at(n * p.block * p.block + i)] * x[at(col)];
      }
    }
  }
  return y;
}

double activated(double x) {
  return std::max(x, 0.0) + 0.125 * x;
}

// One MLP and its inputs.
struct Problem {
  BlockPattern up;
  BlockPattern down;
  Values up_values = values_of(up, 1);
  Values down_values = values_of(down, 2);
  Values up_bias = random_values(up.rows, 3);

  Values input(int tile) const {
    return random_values(up.cols, 10 + static_cast<std::uint64_t>(tile));
  }
  Values output(int tile) const {
    Values hidden = product(up, up_values, input(tile));
    for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] = activated(hidden[i] + up_bias[i]);
    return product(down, down_values, hidden);
  }
};

// A barrier of Hopper's shared memory.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count), missing_(count) {}
  void arrive() {
    if (--missing_ == 0) {
      missing_ = count_;
      ++phase_;
    }
  }
  bool ended(std::int64_t parity) const { return phase_ % 2 != parity; }

 private:
  int count_;
  int missing_;
  std::int64_t phase_ = 0;
};

struct Ring {
  std::vector<Barrier> full;
  std::vector<Barrier> empty;
  Ring(int stages, int writers, int readers)
      : full(at(stages), Barrier(writers)), empty(at(stages), Barrier(readers)) {}

  std::size_t place(std::int64_t count) const { return at(count) % full.size(); }
  std::int64_t turn(std::int64_t count) const {
    return count / static_cast<std::int64_t>(full.size()) % 2;
  }
  bool can_write(std::int64_t count) const { return empty[place(count)].ended(1 - turn(count)); }
  bool can_read(std::int64_t count) const { return full[place(count)].ended(turn(count)); }
};

struct Stage {
  MlpStep step;
  Values box;
};

// One warpgroup, and the warp that loads for it.
struct Group {
  const MlpStep* steps;
  int count;
  Ring ring;
  std::vector<Stage> stages;
  // The loader.
  int load_tile = 0;
  int load_step = 0;
  std::int64_t loaded = 0;
  // The warpgroup.
  int tile = 0;
  bool has_input = false;  // it has waited for this tile's
  int passed = 0;          // of this step's passes
  std::int64_t taken = 0;
  std::int64_t read = 0;  // hidden strips
  std::optional<std::int64_t> held_stage = std::nullopt;
  std::optional<std::int64_t> held_slot = std::nullopt;
  std::optional<std::int64_t> written = std::nullopt;
  std::vector<Values> sums{};
  Values hidden = Values(64, 0);
};

class Machine {
 public:
  Machine(const Problem& problem, const MlpProgram& program, int tiles)
      : p_(problem),
        program_(program),
        tiles_(tiles),
        depth_(std::min<std::int64_t>(problem.up.block, 64)),
        slots_(program.tile.slots, 1, kMlpWarpgroups),
        slot_values_(at(program.tile.slots)),
        inputs_(1, 1, kMlpWarpgroups) {
    for (int g = 0; g < kMlpWarpgroups; ++g) {
      const int begin = program.begin[at(g)];
      groups_.push_back({.steps = program.steps.data() + begin,
                         .count = program.begin[at(g + 1)] - begin,
                         .ring = Ring(program.tile.stages, 1, 1),
                         .stages = std::vector<Stage>(at(program.tile.stages))});
      groups_.back().sums.assign(at(program.tile.own), Values(64, 0));
    }
    outputs_.assign(at(tiles), Values(at(problem.down.rows), 1e9));
    written_.assign(at(tiles), std::vector<int>(at(problem.down.rows), 0));
  }

  // Actors advance in an order drawn from `seed`. False if nobody can before the end.
  bool run(std::uint64_t seed) {
    constexpr std::uint64_t kActors = 2 * kMlpWarpgroups + 1;
    for (std::uint64_t draw = 0; !finished(); ++draw) {
      // Some actors come by far more often than others.
      const double u = uniform(seed, 1, draw);
      const auto first = static_cast<std::uint64_t>((seed % 2 == 0 ? u : u * u) * kActors);
      bool moved = false;
      for (std::uint64_t a = 0; a < kActors && !moved; ++a) moved = advance((first + a) % kActors);
      if (!moved)
        return false;
    }
    return true;
  }

  const Values& output(int tile) const { return outputs_[at(tile)]; }
  // Each feature once a write of its tokens.
  bool all_written() const {
    return std::all_of(written_.begin(), written_.end(), [&](const std::vector<int>& tile) {
      return std::all_of(tile.begin(), tile.end(),
                         [&](int writes) { return writes == program_.tile.writes(); });
    });
  }

 private:
  bool finished() const {
    return std::all_of(groups_.begin(), groups_.end(),
                       [&](const Group& g) { return g.tile == tiles_; });
  }
  bool advance(std::uint64_t actor) {
    if (actor == 0)
      return load_input();
    Group& group = groups_[at(static_cast<std::int64_t>(actor - 1) / 2)];
    return actor % 2 == 1 ? load_stage(group) : multiply(group);
  }

  bool load_input() {
    if (input_tile_ == tiles_ || !inputs_.can_write(input_tile_))
      return false;
    input_ = p_.input(input_tile_);
    input_.resize(768, 0);
    inputs_.full[0].arrive();
    ++input_tile_;
    return true;
  }

  bool load_stage(Group& g) {
    if (g.load_tile == tiles_ || !g.ring.can_write(g.loaded))
      return false;
    const MlpStep& step = g.steps[g.load_step];
    Stage& stage = g.stages[g.ring.place(g.loaded)];
    stage = {.step = step, .box = {}};
    if (step.op.has_block())
      stage.box = box_of(step);
    g.ring.full[g.ring.place(g.loaded)].arrive();
    ++g.loaded;
    if (++g.load_step == g.count) {
      g.load_step = 0;
      ++g.load_tile;
    }
    return true;
  }

  // As TMA loads it: rows behind the values are zero.
  Values box_of(const MlpStep& step) const {
    const bool up = step.op.kind() == MlpOp::kUp;
    const Values& values = up ? p_.up_values : p_.down_values;
    const std::int64_t b = p_.up.block;
    Values box;
    for (std::int64_t r = 0; r < 64; ++r) {
      const std::int64_t row = step.row[at(r / depth_)] + r % depth_;
      for (std::int64_t c = 0; c < depth_; ++c) {
        const std::int64_t from = row * b + c + (step.op.right() ? 64 : 0);
        box.push_back(from < std::ssize(values) ? values[at(from)] : 0);
      }
    }
    return box;
  }

  void release(Group& g, std::int64_t stage) { g.ring.empty[g.ring.place(stage)].arrive(); }
  bool drain(Group& g) {
    if (!g.held_stage)
      return false;
    release(g, *g.held_stage);
    if (g.held_slot)
      slots_.empty[slots_.place(*g.held_slot)].arrive();
    g.held_stage.reset();
    g.held_slot.reset();
    return true;
  }
  void hold(Group& g, bool slot) {
    drain(g);
    g.held_stage = g.taken;
    if (slot)
      g.held_slot = g.read;
  }

  bool multiply(Group& g) {
    if (g.tile == tiles_)
      return false;
    if ((!g.has_input && !inputs_.can_read(g.tile)) || !g.ring.can_read(g.taken))
      return drain(g);
    g.has_input = true;
    const Stage& stage = g.stages[g.ring.place(g.taken)];
    const MlpOp op = stage.step.op;
    if (g.passed < op.passes()) {
      if (!slots_.can_read(g.read))
        return drain(g);
      slots_.empty[slots_.place(g.read)].arrive();
      ++g.read;
      ++g.passed;
      return true;
    }
    if (!perform(g, stage))
      return drain(g);
    g.passed = 0;
    ++g.taken;
    return true;
  }

  // False: it has to wait.
  bool perform(Group& g, const Stage& stage) {
    switch (stage.step.op.kind()) {
      case MlpOp::kUp:
      case MlpOp::kEmpty:
        return make(g, stage);
      case MlpOp::kDown:
        return read(g, stage);
      case MlpOp::kWrite:
        write(g, stage.step);
        return true;
      case MlpOp::kEnd:
        end(g, stage.step);
        return true;
    }
    return false;
  }

  void add_product(Values& sums, const Values& box, const double* x) const {
    for (std::int64_t r = 0; r < 64; ++r) {
      for (std::int64_t c = 0; c < depth_; ++c) sums[at(r)] += box[at(r * depth_ + c)] * x[c];
    }
  }

  bool make(Group& g, const Stage& stage) {
    const MlpStep& step = stage.step;
    const std::int64_t number = std::int64_t{g.tile} * program_.hidden_strips + step.number();
    if (step.op.last() && !slots_.can_write(number))
      return false;
    if (step.op.first())
      g.hidden.assign(64, 0);
    if (step.op.kind() == MlpOp::kUp)
      add_product(g.hidden, stage.box, input_.data() + step.op.source() * depth_);
    hold(g, /*slot=*/false);
    if (!step.op.last())
      return true;
    drain(g);
    if (step.op.frees_input())
      inputs_.empty[0].arrive();
    Values strip(64, 0);
    for (std::int64_t i = 0; i < 64; ++i) {
      const std::int64_t feature = std::int64_t{step.place()} * 64 + i;
      const double bias = feature < p_.up.rows ? p_.up_bias[at(feature)] : 0;
      strip[at(i)] = activated(g.hidden[at(i)] + bias);
    }
    slot_values_[slots_.place(number)] = strip;
    slots_.full[slots_.place(number)].arrive();
    return true;
  }

  bool read(Group& g, const Stage& stage) {
    const MlpOp op = stage.step.op;
    if (op.first() && !slots_.can_read(g.read))
      return false;
    add_product(g.sums[at(op.own())], stage.box,
                slot_values_[slots_.place(g.read)].data() + op.source() * depth_);
    hold(g, op.last());
    g.read += op.last() ? 1 : 0;
    return true;
  }

  void write(Group& g, const MlpStep& step) {
    drain(g);
    const auto which = at(&g - groups_.data());
    const int strip = program_.strips[which][at(step.op.own())];
    REQUIRE(strip >= 0);
    for (std::int64_t i = 0; i < 64; ++i) {
      const std::int64_t feature = std::int64_t{strip} * 64 + i;
      if (feature >= p_.down.rows)
        break;
      outputs_[at(g.tile)][at(feature)] = g.sums[at(step.op.own())][at(i)];
      ++written_[at(g.tile)][at(feature)];
    }
    if (g.written)
      release(g, *g.written);
    g.written = g.taken;
  }

  void end(Group& g, const MlpStep& step) {
    drain(g);
    if (step.op.frees_input())
      inputs_.empty[0].arrive();
    if (g.written)
      release(g, *g.written);
    g.written.reset();
    release(g, g.taken);
    g.sums.assign(g.sums.size(), Values(64, 0));
    ++g.tile;
    g.has_input = false;
  }

  const Problem& p_;
  const MlpProgram& program_;
  int tiles_;
  std::int64_t depth_;
  std::vector<Group> groups_;
  Ring slots_;
  std::vector<Values> slot_values_;
  Ring inputs_;
  Values input_;
  int input_tile_ = 0;
  std::vector<Values> outputs_;
  std::vector<std::vector<int>> written_;
};

double error_of(const Values& got, const Values& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, std::abs(got[i] - expected[i]));
  return worst;
}

void check(const BlockPattern& up, const BlockPattern& down, int tiles = 3) {
  const Problem problem{.up = up, .down = down};
  const MlpProgram program = mlp_program(up.index(), down.index());
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    CAPTURE(seed);
    Machine machine(problem, program, tiles);
    REQUIRE(machine.run(seed));
    CHECK(machine.all_written());
    for (int tile = 0; tile < tiles; ++tile)
      CHECK(error_of(machine.output(tile), problem.output(tile)) <= 1e-9);
  }
}

struct Sizes {
  std::int64_t in;
  std::int64_t hidden;
  std::int64_t out;
};

BlockPattern one_block(std::int64_t rows, std::int64_t cols, std::int64_t block, std::int64_t r,
                       std::int64_t c) {
  return make_pattern(rows, cols, block,
                      [&](std::int64_t row, std::int64_t col) { return row == r && col == c; });
}

}  // namespace

TEST_CASE("the programs of a fused MLP multiply each live block once, in any order of the warps") {
  for (const Sizes& s : {Sizes{768, 1024, 768}, Sizes{64, 64, 64}, Sizes{200, 328, 136},
                         Sizes{384, 1536, 384}, Sizes{448, 512, 64}, Sizes{8, 1000, 768}}) {
    CAPTURE(s.in);
    CAPTURE(s.hidden);
    for (const std::int64_t b : {32, 64, 128}) {
      CAPTURE(b);
      for (const double density : {0.1, 0.4, 1.0}) {
        CAPTURE(density);
        const BlockPattern up = random_pattern(s.hidden, s.in, b, density, 5);
        const BlockPattern down = random_pattern(s.out, s.hidden, b, density, 6);
        if (up.nnzb() > 0 && down.nnzb() > 0)
          check(up, down, /*tiles=*/2);
      }
    }
  }
}

TEST_CASE("the programs of a fused MLP skip hidden strips that nobody reads, and make empty ones") {
  for (const std::int64_t b : {32, 64, 128}) {
    CAPTURE(b);
    const BlockPattern few = random_pattern(3072, 768, b, 0.02, 3);
    for (const std::int64_t c : {0, 3}) {
      const BlockPattern one = one_block(768, 3072, b, 1, c);
      check(few, one, /*tiles=*/20);
      const MlpProgram program = mlp_program(few.index(), one.index());
      CHECK(program.hidden_strips == std::max<std::int64_t>(b / 64, 1));
    }
    // A single block makes, in a strip that others read, and all other strips are empty.
    check(one_block(1024, 768, b, 2, 1), random_pattern(768, 1024, b, 0.3, 4));
  }
}

TEST_CASE("a program of a fused MLP gives its warpgroups about as much to do") {
  const BlockPattern up = random_pattern(3072, 768, 64, 0.1, 8);
  const BlockPattern down = random_pattern(768, 3072, 64, 0.1, 9);
  const MlpProgram program = mlp_program(up.index(), down.index());
  // Hidden strips that no block reads are not made.
  std::int64_t made_blocks = 0;
  for (std::size_t r = 0; r + 1 < up.crow.size(); ++r)
    made_blocks += down.ccol[r + 1] > down.ccol[r] ? up.crow[r + 1] - up.crow[r] : 0;
  CHECK(program.blocks == made_blocks + down.nnzb());
  std::array<int, kMlpWarpgroups> blocks{};
  std::array<int, kMlpWarpgroups> made{};
  for (std::size_t g = 0; g < kMlpWarpgroups; ++g) {
    for (int i = program.begin[g]; i < program.begin[g + 1]; ++i) {
      const MlpOp op = program.steps[at(i)].op;
      blocks[g] += op.has_block() ? 1 : 0;
      made[g] += op.last() && (op.kind() == MlpOp::kUp || op.kind() == MlpOp::kEmpty) ? 1 : 0;
    }
  }
  CHECK(made[0] + made[1] + made[2] == program.hidden_strips);
  const auto cost = [&](std::size_t g) { return blocks[g] + 3 * made[g]; };
  const int most = std::max({cost(0), cost(1), cost(2)});
  const int least = std::min({cost(0), cost(1), cost(2)});
  CHECK(most - least <= most / 5);
}

TEST_CASE("what a fused MLP has no kernel for") {
  const auto has = [](std::int64_t in, std::int64_t hidden, std::int64_t out, std::int64_t b) {
    const BlockPattern up = random_pattern(hidden, in, b, 1, 1);
    const BlockPattern down = random_pattern(out, hidden, b, 1, 1);
    return has_mlp_program(up.index(), down.index());
  };
  CHECK(has(768, 256, 768, 64));
  CHECK_FALSE(has(776, 256, 768, 64));
  CHECK_FALSE(has(768, 256, 832, 64));
  CHECK_FALSE(has(64, 256, 64, 16));
  const BlockPattern none = random_pattern(64, 64, 64, 0, 1);
  const BlockPattern full = random_pattern(64, 64, 64, 1, 1);
  CHECK_FALSE(has_mlp_program(none.index(), full.index()));
  CHECK_FALSE(has_mlp_program(full.index(), none.index()));
  CHECK_THROWS_AS(mlp_program(full.index(), none.index()), ShapeError);
}

TEST_CASE("the machine notices a program that is wrong") {
  const Problem problem{.up = random_pattern(512, 256, 64, 0.5, 5),
                        .down = random_pattern(256, 512, 64, 0.5, 6)};
  const MlpProgram right = mlp_program(problem.up.index(), problem.down.index());
  const auto outcome = [&](const MlpProgram& program) {
    Machine machine(problem, program, 2);
    return machine.run(1) && error_of(machine.output(1), problem.output(1)) <= 1e-9;
  };
  CHECK(outcome(right));
  const auto block = std::find_if(right.steps.begin(), right.steps.end(),
                                  [](const MlpStep& s) { return s.op.has_block(); });
  const auto changed = [&](const auto& change) {
    MlpProgram wrong = right;
    change(wrong.steps[at(block - right.steps.begin())]);
    return outcome(wrong);
  };
  CHECK_FALSE(changed([](MlpStep& s) { s.row[0] += 64; }));
  CHECK_FALSE(changed([](MlpStep& s) { s.op.bits ^= 1U << 9; }));
  // Nobody would ever let go of the input.
  MlpProgram stuck = right;
  for (MlpStep& step : stuck.steps) step.op.bits &= ~(1U << 7);
  CHECK_FALSE(outcome(stuck));
}

}  // namespace hew
