#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/bsr.h"
#include "kernels/hopper/gradient_items.h"

namespace hew::kernels {

/// Which part of a row that is cut into several a group is: the `number`th of `count`, of the
/// `row`th such row. All of it 0: the group's rows are whole.
struct RowPart {
  std::int32_t word = 0;

  static constexpr std::int64_t kMost = 255;  // of a row
  static constexpr RowPart of(int row, int number, int count) {
    return {row << 16 | number << 8 | count};
  }
  constexpr int row() const { return word >> 16; }
  constexpr int number() const { return word >> 8 & 0xFF; }
  constexpr int count() const { return word & 0xFF; }
};

/// Groups of block rows whose outputs one thread block makes together, so that a block column of
/// the input that several of them need is loaded once. Each row is in one group, but for rows of b
/// ≥ 64 that are cut, whose parts are groups of their own. The groups with most steps come first. A
/// step is a block column that a row of the group needs, with the live blocks there; a group's
/// steps ascend by column. For the transposed product rows are W's block columns, and columns its
/// block rows.
struct RowGroups {
  int members = 0;  // rows a group
  std::int64_t groups = 0;
  std::int64_t steps = 0;
  std::int64_t longest = 0;      // steps of the first group
  std::int64_t long_groups = 0;  // the first ones, of more than 1.5 times the mean
  std::int64_t long_steps = 0;   // theirs
  std::int64_t cut_rows = 0;
  std::int64_t most_parts = 0;              // of a cut row
  const std::int32_t* rows = nullptr;       // [groups, members]; −1 fills up
  const std::int32_t* begin = nullptr;      // [groups + 1], into the steps
  const std::int32_t* columns = nullptr;    // [steps]
  const std::int32_t* positions = nullptr;  // [steps, members] in values; −1: that row's is dead
  const std::int32_t* parts = nullptr;      // [groups] words of RowPart; null: no row is cut
};

/// The groups of each kind of tile: one that both warpgroups of a thread block make together, 128
/// rows high; one that a warpgroup makes alone, 64 high (128 where the block is); and one of twice
/// the rows, which both make together.
struct BsrWalk {
  std::int64_t live_columns = 0;  // block columns that any row needs
  RowGroups together;
  RowGroups alone;  // none for b < 64
  RowGroups tall;   // for b = 32 alone, and where tall_tiles_may_pay()
};

/// Bytes of a product's input that an H100's second-level cache of 50 MiB holds until all tiles
/// that read them have come, with the values and the output beside them.
inline constexpr std::int64_t kCachedInput = std::int64_t{24} << 20;

/// Whether tiles of 256 rows, or as many columns, can be faster for outputs of so many features.
bool tall_tiles_may_pay(std::int64_t width);

/// A schedule on the host.
class BsrPlan {
 public:
  /// Words of int32 from the start of which a schedule's arrays must lie a multiple.
  static constexpr std::int64_t kAlignment = 64;

  /// From an index with b = 16, 32, 64 or 128 whose arrays lie on the host; keeps none of them.
  /// What the stream's BsrSettings ask for beside what pays is there, too; items of the weight
  /// gradient are those of its ProductSettings::tf32. Throws ShapeError on another b.
  BsrPlan(const BsrIndex& host, const Stream& stream);

  /// The arrays one behind the other.
  std::span<const std::int32_t> words() const { return words_; }

 private:
  friend struct BsrSchedule;
  // Groups without pointers, and where their arrays begin.
  struct Placed {
    RowGroups groups{};
    std::size_t rows = 0;
    std::size_t begin = 0;
    std::size_t columns = 0;
    std::size_t positions = 0;
    std::size_t parts = 0;
    RowGroups on(const std::int32_t* words) const;
  };
  std::size_t add(std::span<const std::int32_t> array);

  std::vector<std::int32_t> words_;
  hopper::GradientSchedule gradient_;  // without items, which come first
  std::array<Placed, 2> together_;     // by rows, by columns
  std::array<Placed, 2> alone_;
  std::array<Placed, 2> tall_;
};

/// How Hopper's kernels go through the live blocks of a BsrIndex with b = 16, 32, 64 or 128.
struct BsrSchedule {
  BsrWalk by_rows;                    // forward
  BsrWalk by_columns;                 // input gradient
  hopper::GradientSchedule gradient;  // weight gradient

  /// From a plan and its words [n] where the kernels read them, aligned as the plan says.
  BsrSchedule(const BsrPlan& plan, const Tensor& words);
  /// From an index whose arrays lie on the host; copies what it makes of them to the stream's
  /// device.
  BsrSchedule(const BsrIndex& host, const Stream& stream);

 private:
  Tensor words_;  // what the walks point into
};

/// Whether the block has Hopper kernels.
bool has_schedule(std::int64_t block);
/// Whether the stream is of a GPU, and the block has Hopper kernels, which want a schedule.
bool wants_schedule(std::int64_t block, const Stream& stream);
/// The schedule of an index whose arrays lie on the host where one is wanted, else null.
std::shared_ptr<const BsrSchedule> schedule_for(const BsrIndex& host, const Stream& stream);

}  // namespace hew::kernels
