#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/hopper/mlp_program.h"
#include "tests/kernels/mlp_problem.h"

/// What the machine of mlp_machine.h consists of.
namespace hew::test::machine {

using kernels::hopper::MlpStep;

// A barrier of Hopper's shared memory. Bytes may come before they are announced.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count), missing_(count) {}
  void arrive(int expected = 0) {
    loads_ += expected;
    --missing_;
    settle();
  }
  void load() {
    --loads_;
    settle();
  }
  bool ended(std::int64_t parity) const { return phase_ % 2 != parity; }

 private:
  void settle() {
    if (missing_ > 0 || loads_ != 0)
      return;
    missing_ = count_;
    ++phase_;
  }

  int count_;
  int missing_;
  int loads_ = 0;  // announced and not yet there
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

// An output strip that TMA may not yet have read from its stage.
struct Store {
  std::int64_t stage;
  int strip;
};

// One warpgroup, and the warp that loads for it.
struct Group {
  int block;   // thread block
  int number;  // in it
  const MlpStep* steps;
  int count;
  Ring ring;
  std::vector<Stage> stages;
  // The loader. Tiles are counted among the thread block's.
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
  std::optional<Store> store = std::nullopt;
  std::vector<Batch> in_flight{};
  std::vector<Values> sums{};
  Values hidden = Values(64, 0);
};

// A thread block.
struct Block {
  int tiles;
  std::vector<Group> groups;
  Ring slots;
  std::vector<Values> slot_values;
  Ring inputs;
  Values input{};
  int input_tile = 0;
};

}  // namespace hew::test::machine
