#include "kernels/hopper/mlp_program.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "tests/kernels/mlp_machine.h"
#include "tests/support/block_pattern.h"

namespace hew {
namespace {

using kernels::hopper::has_mlp_program;
using kernels::hopper::kMlpWarpgroups;
using kernels::hopper::mlp_program;
using kernels::hopper::MlpOp;
using kernels::hopper::MlpProgram;
using kernels::hopper::MlpStep;
using test::at;
using test::BlockPattern;
using test::MlpFault;
using test::MlpMachine;
using test::MlpProblem;
using test::one_block;
using test::random_pattern;
using test::Values;

double error_of(const Values& got, const Values& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, std::abs(got[i] - expected[i]));
  return worst;
}

void check(const BlockPattern& up, const BlockPattern& down, int rounds = 2) {
  const MlpProblem problem{.up = up, .down = down};
  const MlpProgram program = mlp_program(up.index(), down.index());
  for (const std::uint64_t seed : {1, 2, 3, 4}) {
    CAPTURE(seed);
    MlpMachine machine(problem, program, rounds);
    REQUIRE(machine.run(seed));
    CHECK(machine.all_written());
    for (int tile = 0; tile < machine.tiles(); ++tile)
      CHECK(error_of(machine.output(tile), problem.output(tile)) <= 1e-9);
  }
}

struct Sizes {
  std::int64_t in;
  std::int64_t hidden;
  std::int64_t out;
};

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
          check(up, down);
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
      check(few, one, /*rounds=*/20);
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
  const MlpProblem problem{.up = random_pattern(512, 256, 64, 0.5, 5),
                           .down = random_pattern(256, 512, 64, 0.5, 6)};
  const MlpProgram right = mlp_program(problem.up.index(), problem.down.index());
  const auto outcome = [&](const MlpProgram& program) {
    MlpMachine machine(problem, program, 2);
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

TEST_CASE("the machine notices thread blocks of a cluster that do not wait for each other") {
  const MlpProblem problem{.up = random_pattern(512, 256, 64, 0.5, 5),
                           .down = random_pattern(256, 512, 64, 0.5, 6)};
  const MlpProgram program = mlp_program(problem.up.index(), problem.down.index());
  const auto outcome = [&](MlpFault fault) {
    MlpMachine machine(problem, program, 2, fault);
    if (!machine.run(1))
      return false;
    for (int tile = 0; tile < machine.tiles(); ++tile) {
      if (!(error_of(machine.output(tile), problem.output(tile)) <= 1e-9))
        return false;
    }
    return true;
  };
  CHECK(outcome(MlpFault::kNone));
  CHECK_FALSE(outcome(MlpFault::kForgetsPeer));
  CHECK_FALSE(outcome(MlpFault::kStopsEarly));
}

}  // namespace hew
