#pragma once

#include <cstdint>
#include <memory>

#include "core/tensor.h"
#include "kernels/bsr.h"
#include "kernels/hopper/gradient_items.h"

namespace hew::kernels {

/// Groups of block rows whose outputs one thread block makes together, so that a block column of
/// the input that several of them need is loaded once. Each row is in one group; the groups with
/// most steps come first. A step is a block column that a row of the group needs, with the live
/// blocks there; a group's steps ascend by column. For the transposed product rows are W's block
/// columns, and columns its block rows.
struct RowGroups {
  int members = 0;  // rows a group
  std::int64_t groups = 0;
  std::int64_t steps = 0;
  std::int64_t longest = 0;                 // steps of the first group
  std::int64_t long_groups = 0;             // the first ones, of more than 1.5 times the mean
  std::int64_t long_steps = 0;              // theirs
  const std::int32_t* rows = nullptr;       // [groups, members]; −1 fills up the last group
  const std::int32_t* begin = nullptr;      // [groups + 1], into the steps
  const std::int32_t* columns = nullptr;    // [steps]
  const std::int32_t* positions = nullptr;  // [steps, members] in values; −1: that row's is dead
};

/// The groups of either tile: one that both warpgroups of a thread block make together, 128 rows
/// high, and one that a warpgroup makes alone, 64 high (128 where the block is).
struct BsrWalk {
  RowGroups together;
  RowGroups alone;  // none for b = 32
};

/// How Hopper's kernels go through the live blocks of a BsrIndex with b = 16, 32, 64 or 128.
struct BsrSchedule {
  BsrWalk by_rows;                    // forward; empty for b = 16
  BsrWalk by_columns;                 // input gradient; empty for b = 16
  hopper::GradientSchedule gradient;  // weight gradient

  /// From an index whose arrays lie on the host; the schedule's are made there too, and copied to
  /// the stream's device. Takes less than 0.3 ms for 100 × 25 blocks.
  BsrSchedule(const BsrIndex& host, const Stream& stream);

 private:
  Tensor arrays_;  // what the walks point into
};

/// Whether the stream is of a GPU, and the block has Hopper kernels, which want a schedule.
bool wants_schedule(std::int64_t block, const Stream& stream);
/// The schedule of an index whose arrays lie on the host where one is wanted, else null.
std::shared_ptr<const BsrSchedule> schedule_for(const BsrIndex& host, const Stream& stream);

}  // namespace hew::kernels
