#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/rng.h"
#include "kernels/hopper/mlp_program.h"
#include "tests/kernels/mlp_problem.h"

/// The fused MLP's kernel on the host, one token a tile: its warps are actors that advance in any
/// order, with barriers that have phases and parities like those in shared memory, and products
/// that read their operands when they end.
namespace hew::test {

using kernels::hopper::kMlpWarpgroups;
using kernels::hopper::MlpOp;
using kernels::hopper::MlpProgram;
using kernels::hopper::MlpStep;

namespace machine {

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

// sums += box · tokens[from …], of what those hold when it ends, which is when it is waited for.
struct Batch {
  Values* sums;
  const Values* box;
  const Values* tokens;
  std::int64_t from;
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
  std::vector<Batch> in_flight{};
  std::vector<Values> sums{};
  Values hidden = Values(64, 0);
};

}  // namespace machine

/// Makes `tiles` tiles.
class MlpMachine {
 public:
  MlpMachine(const MlpProblem& problem, const MlpProgram& program, int tiles)
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
                         .ring = machine::Ring(program.tile.stages, 1, 1),
                         .stages = std::vector<machine::Stage>(at(program.tile.stages))});
      groups_.back().sums.assign(at(program.tile.own), Values(64, 0));
    }
    outputs_.assign(at(tiles), Values(at(problem.down.rows), 1e9));
    written_.assign(at(tiles), std::vector<int>(at(problem.down.rows), 0));
  }

  /// Actors advance in an order drawn from `seed`. False if nobody can before the end.
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
  /// Each feature once a write of its tokens.
  bool all_written() const {
    return std::all_of(written_.begin(), written_.end(), [&](const std::vector<int>& tile) {
      return std::all_of(tile.begin(), tile.end(),
                         [&](int writes) { return writes == program_.tile.writes(); });
    });
  }

 private:
  bool finished() const {
    return std::all_of(groups_.begin(), groups_.end(),
                       [&](const machine::Group& g) { return g.tile == tiles_; });
  }
  bool advance(std::uint64_t actor) {
    if (actor == 0)
      return load_input();
    machine::Group& group = groups_[at(static_cast<std::int64_t>(actor - 1) / 2)];
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

  bool load_stage(machine::Group& g) {
    if (g.load_tile == tiles_ || !g.ring.can_write(g.loaded))
      return false;
    const MlpStep& step = g.steps[g.load_step];
    machine::Stage& stage = g.stages[g.ring.place(g.loaded)];
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

  void release(machine::Group& g, std::int64_t stage) {
    g.ring.empty[g.ring.place(stage)].arrive();
  }
  // Until at most `most` batches are in flight.
  void await_batches(machine::Group& g, std::size_t most) const {
    while (g.in_flight.size() > most) {
      const machine::Batch batch = g.in_flight.front();
      g.in_flight.erase(g.in_flight.begin());
      if (std::ssize(*batch.box) != 64 * depth_)
        continue;  // the stage is another's by now: its product is missing
      for (std::int64_t r = 0; r < 64; ++r) {
        for (std::int64_t c = 0; c < depth_; ++c)
          (*batch.sums)[at(r)] +=
              (*batch.box)[at(r * depth_ + c)] * (*batch.tokens)[at(batch.from + c)];
      }
    }
  }
  void let_go(machine::Group& g) {
    for (const machine::Batch& batch : g.in_flight)
      REQUIRE(batch.box != &g.stages[g.ring.place(*g.held_stage)].box);
    release(g, *g.held_stage);
    if (g.held_slot)
      slots_.empty[slots_.place(*g.held_slot)].arrive();
    g.held_stage.reset();
    g.held_slot.reset();
  }
  bool drain(machine::Group& g) {
    await_batches(g, 0);
    if (!g.held_stage)
      return false;
    let_go(g);
    return true;
  }
  void hold(machine::Group& g, bool slot) {
    await_batches(g, 1);
    if (g.held_stage)
      let_go(g);
    g.held_stage = g.taken;
    if (slot)
      g.held_slot = g.read;
  }

  bool multiply(machine::Group& g) {
    if (g.tile == tiles_)
      return false;
    if ((!g.has_input && !inputs_.can_read(g.tile)) || !g.ring.can_read(g.taken))
      return drain(g);
    g.has_input = true;
    const machine::Stage& stage = g.stages[g.ring.place(g.taken)];
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
  bool perform(machine::Group& g, const machine::Stage& stage) {
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

  bool make(machine::Group& g, const machine::Stage& stage) {
    const MlpStep& step = stage.step;
    const std::int64_t number = std::int64_t{g.tile} * program_.hidden_strips + step.number();
    if (step.op.last() && !slots_.can_write(number))
      return false;
    if (step.op.first())
      g.hidden.assign(64, 0);
    if (step.op.kind() == MlpOp::kUp)
      g.in_flight.push_back({&g.hidden, &stage.box, &input_, step.op.source() * depth_});
    else
      drain(g);
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

  bool read(machine::Group& g, const machine::Stage& stage) {
    const MlpOp op = stage.step.op;
    if (op.first() && !slots_.can_read(g.read))
      return false;
    g.in_flight.push_back({&g.sums[at(op.own())], &stage.box, &slot_values_[slots_.place(g.read)],
                           op.source() * depth_});
    hold(g, op.last());
    g.read += op.last() ? 1 : 0;
    return true;
  }

  void write(machine::Group& g, const MlpStep& step) {
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

  void end(machine::Group& g, const MlpStep& step) {
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

  const MlpProblem& p_;
  const MlpProgram& program_;
  int tiles_;
  std::int64_t depth_;
  std::vector<machine::Group> groups_;
  machine::Ring slots_;
  std::vector<Values> slot_values_;
  machine::Ring inputs_;
  Values input_;
  int input_tile_ = 0;
  std::vector<Values> outputs_;
  std::vector<std::vector<int>> written_;
};

}  // namespace hew::test
