#pragma once

#include <cstdint>

namespace hew::kernels {

/// Rows of an output tile that one warpgroup makes.
inline constexpr std::int64_t kStripHeight = 64;

/// One direction of an index: its rows' live blocks, by ascending column.
struct BlockRows {
  std::int64_t count;
  std::int64_t width;
  std::int64_t elements;         // of all rows' height
  const std::int32_t* begin;     // [count + 1]
  const std::int32_t* columns;   // [nnzb]
  const std::int32_t* position;  // [nnzb] or null: as they come

  std::int64_t length(std::int64_t row) const { return begin[row + 1] - begin[row]; }
};

/// Which rows of a schedule are long enough to be made in parts by several thread blocks, though
/// the parts' sums then go through device memory. The rows must outlive it.
class RowCuts {
 public:
  static constexpr int kMostRows = 4;  // the longest; others stay whole

  /// For tiles of so many rows of blocks of b.
  RowCuts(const BlockRows& rows, std::int64_t members, std::int64_t block);

  /// How many nearly equal parts a row has; 1: it is whole.
  std::int64_t parts(std::int64_t row) const;

 private:
  const BlockRows& rows_;
  std::int64_t steps_;  // of a part, about; 0: no row is cut
};

}  // namespace hew::kernels
