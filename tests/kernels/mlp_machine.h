#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "kernels/hopper/mlp_program.h"
#include "tests/kernels/mlp_machine_parts.h"
#include "tests/kernels/mlp_problem.h"

/// The fused MLP's kernel on the host, one token a tile: the warps of a cluster's thread blocks are
/// actors that advance in any order, with barriers that have phases and parities like those in
/// shared memory, and products and stores that read their operands when they end.
namespace hew::test {

using kernels::hopper::kMlpCluster;
using kernels::hopper::kMlpWarpgroups;
using kernels::hopper::MlpOp;
using kernels::hopper::MlpProgram;
using kernels::hopper::MlpStep;

/// What the kernel might do wrong.
///   kForgetsPeer  a loader waits for its own thread block's warpgroup alone
///   kStopsEarly   the last thread block makes a tile less
enum class MlpFault : std::uint8_t { kNone, kForgetsPeer, kStopsEarly };

/// Each thread block of a cluster makes `rounds` tiles.
class MlpMachine {
 public:
  MlpMachine(const MlpProblem& problem, const MlpProgram& program, int rounds,
             MlpFault fault = MlpFault::kNone)
      : p_(problem),
        program_(program),
        fault_(fault),
        depth_(std::min<std::int64_t>(problem.up.block, 64)) {
    for (int block = 0; block < kMlpCluster; ++block) {
      const bool less = fault == MlpFault::kStopsEarly && block == kMlpCluster - 1;
      blocks_.push_back({.tiles = rounds - (less ? 1 : 0),
                         .groups = {},
                         .slots = machine::Ring(program.tile.slots, 1, kMlpWarpgroups),
                         .slot_values = std::vector<Values>(at(program.tile.slots)),
                         .inputs = machine::Ring(1, 1, kMlpWarpgroups)});
      for (int g = 0; g < kMlpWarpgroups; ++g) blocks_.back().groups.push_back(group(block, g));
    }
    outputs_.assign(at(kMlpCluster * rounds), Values(at(problem.down.rows), 1e9));
    written_.assign(outputs_.size(), std::vector<int>(at(problem.down.rows), 0));
  }

  int tiles() const { return static_cast<int>(outputs_.size()); }

  /// Actors advance in an order drawn from `seed`. False if nobody can before the end.
  bool run(std::uint64_t seed) {
    constexpr std::uint64_t kActors = kMlpCluster * kActorsOfBlock;
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
  static constexpr std::uint64_t kActorsOfBlock = 2 * kMlpWarpgroups + 1;

  machine::Group group(int block, int number) const {
    const int begin = program_.begin[at(number)];
    const machine::Stage stage{.step = {}, .box = Values(at(64 * depth_))};
    const int readers = fault_ == MlpFault::kForgetsPeer ? 1 : kMlpCluster;
    return {.block = block,
            .number = number,
            .steps = program_.steps.data() + begin,
            .count = program_.begin[at(number + 1)] - begin,
            .ring = machine::Ring(program_.tile.stages, 1, readers),
            .stages = std::vector<machine::Stage>(at(program_.tile.stages), stage),
            .sums = std::vector<Values>(at(program_.tile.own), Values(64, 0))};
  }

  bool finished() const {
    return std::all_of(blocks_.begin(), blocks_.end(), [](const machine::Block& block) {
      return std::all_of(block.groups.begin(), block.groups.end(),
                         [&](const machine::Group& g) { return g.tile == block.tiles; });
    });
  }
  machine::Block& block_of(const machine::Group& g) { return blocks_[at(g.block)]; }
  static int tile_of(int block, int round) { return kMlpCluster * round + block; }

  bool advance(std::uint64_t actor) {
    machine::Block& block = blocks_[actor / kActorsOfBlock];
    const std::uint64_t a = actor % kActorsOfBlock;
    if (a == 0)
      return load_input(block);
    machine::Group& group = block.groups[(a - 1) / 2];
    return a % 2 == 1 ? load_stage(group) : multiply(group);
  }

  bool load_input(machine::Block& block) {
    if (block.input_tile == block.tiles || !block.inputs.can_write(block.input_tile))
      return false;
    block.input = p_.input(tile_of(block.groups[0].block, block.input_tile));
    block.input.resize(768, 0);
    block.inputs.full[0].arrive();
    ++block.input_tile;
    return true;
  }

  bool load_stage(machine::Group& g) {
    if (g.load_tile == block_of(g).tiles || !g.ring.can_write(g.loaded))
      return false;
    const MlpStep& step = g.steps[g.load_step];
    const std::size_t place = g.ring.place(g.loaded);
    g.stages[place].step = step;
    g.ring.full[place].arrive(step.op.has_block() ? kMlpCluster : 0);
    if (step.op.has_block())
      load_share(g, place);
    ++g.loaded;
    if (++g.load_step == g.count) {
      g.load_step = 0;
      ++g.load_tile;
    }
    return true;
  }

  // Of the step's box, into all thread blocks.
  void load_share(const machine::Group& g, std::size_t place) {
    const Values box = box_of(g.stages[place].step);
    const std::int64_t count = std::ssize(box) / kMlpCluster;
    const std::int64_t first = g.block * count;
    for (machine::Block& block : blocks_) {
      machine::Group& to = block.groups[at(g.number)];
      std::copy_n(box.begin() + first, count, to.stages[place].box.begin() + first);
      to.ring.full[place].load();
    }
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
    for (machine::Block& block : blocks_) {
      machine::Group& loads = block.groups[at(g.number)];
      if (&loads == &g || fault_ != MlpFault::kForgetsPeer)
        loads.ring.empty[g.ring.place(stage)].arrive();
    }
  }
  // Until at most `most` batches are in flight.
  void await_batches(machine::Group& g, std::size_t most) const {
    while (g.in_flight.size() > most) {
      const machine::Batch batch = g.in_flight.front();
      g.in_flight.erase(g.in_flight.begin());
      for (std::int64_t r = 0; r < 64; ++r) {
        for (std::int64_t c = 0; c < depth_; ++c)
          (*batch.sums)[at(r)] +=
              (*batch.box)[at(r * depth_ + c)] * (*batch.tokens)[at(batch.from + c)];
      }
    }
  }
  void let_go_slot(const machine::Group& g, std::int64_t strip) {
    machine::Ring& slots = block_of(g).slots;
    slots.empty[slots.place(strip)].arrive();
  }
  void let_go(machine::Group& g) {
    for (const machine::Batch& batch : g.in_flight)
      REQUIRE(batch.box != &g.stages[g.ring.place(*g.held_stage)].box);
    release(g, *g.held_stage);
    if (g.held_slot)
      let_go_slot(g, *g.held_slot);
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
    const machine::Block& block = block_of(g);
    if (g.tile == block.tiles)
      return false;
    if ((!g.has_input && !block.inputs.can_read(g.tile)) || !g.ring.can_read(g.taken))
      return drain(g);
    g.has_input = true;
    machine::Stage& stage = g.stages[g.ring.place(g.taken)];
    const MlpOp op = stage.step.op;
    if (g.passed < op.passes()) {
      if (!block.slots.can_read(g.read))
        return drain(g);
      let_go_slot(g, g.read);
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
  bool perform(machine::Group& g, machine::Stage& stage) {
    switch (stage.step.op.kind()) {
      case MlpOp::kUp:
      case MlpOp::kEmpty:
        return make(g, stage);
      case MlpOp::kDown:
        return read(g, stage);
      case MlpOp::kWrite:
        write(g, stage);
        return true;
      case MlpOp::kEnd:
        end(g, stage.step);
        return true;
    }
    return false;
  }

  bool make(machine::Group& g, const machine::Stage& stage) {
    const MlpStep& step = stage.step;
    machine::Block& block = block_of(g);
    const std::int64_t number = std::int64_t{g.tile} * program_.hidden_strips + step.number();
    if (step.op.last() && !block.slots.can_write(number))
      return false;
    if (step.op.first())
      g.hidden.assign(64, 0);
    if (step.op.kind() == MlpOp::kUp)
      g.in_flight.push_back({&g.hidden, &stage.box, &block.input, step.op.source() * depth_});
    else
      drain(g);
    hold(g, /*slot=*/false);
    if (!step.op.last())
      return true;
    drain(g);
    if (step.op.frees_input())
      block.inputs.empty[0].arrive();
    Values strip(64, 0);
    for (std::int64_t i = 0; i < 64; ++i) {
      const std::int64_t feature = std::int64_t{step.place()} * 64 + i;
      const double bias = feature < p_.up.rows ? p_.up_bias[at(feature)] : 0;
      strip[at(i)] = activated(g.hidden[at(i)] + bias);
    }
    block.slot_values[block.slots.place(number)] = strip;
    block.slots.full[block.slots.place(number)].arrive();
    return true;
  }

  bool read(machine::Group& g, const machine::Stage& stage) {
    const MlpOp op = stage.step.op;
    const machine::Block& block = block_of(g);
    if (op.first() && !block.slots.can_read(g.read))
      return false;
    g.in_flight.push_back({&g.sums[at(op.own())], &stage.box,
                           &block.slot_values[block.slots.place(g.read)], op.source() * depth_});
    hold(g, op.last());
    g.read += op.last() ? 1 : 0;
    return true;
  }

  void write(machine::Group& g, machine::Stage& stage) {
    drain(g);
    const MlpOp op = stage.step.op;
    std::copy_n(g.sums[at(op.own())].begin(), 64, stage.box.begin());
    if (g.store)
      finish_store(g);
    g.store = {.stage = g.taken, .strip = program_.strips[at(g.number)][at(op.own())]};
    REQUIRE(g.store->strip >= 0);
  }
  void finish_store(machine::Group& g) {
    const auto [stage, strip] = *g.store;
    const std::size_t tile = at(tile_of(g.block, g.tile));
    for (std::int64_t i = 0; i < 64; ++i) {
      const std::int64_t feature = std::int64_t{strip} * 64 + i;
      if (feature >= p_.down.rows)
        break;
      outputs_[tile][at(feature)] = g.stages[g.ring.place(stage)].box[at(i)];
      ++written_[tile][at(feature)];
    }
    release(g, stage);
    g.store.reset();
  }

  void end(machine::Group& g, const MlpStep& step) {
    drain(g);
    if (step.op.frees_input())
      block_of(g).inputs.empty[0].arrive();
    if (g.store)
      finish_store(g);
    release(g, g.taken);
    g.sums.assign(g.sums.size(), Values(64, 0));
    ++g.tile;
    g.has_input = false;
  }

  const MlpProblem& p_;
  const MlpProgram& program_;
  MlpFault fault_;
  std::int64_t depth_;
  std::vector<machine::Block> blocks_;
  std::vector<Values> outputs_;
  std::vector<std::vector<int>> written_;
};

}  // namespace hew::test
