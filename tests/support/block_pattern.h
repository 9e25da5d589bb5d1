#pragma once

#include <cstdint>
#include <vector>

#include "kernels/bsr.h"
#include "kernels/bsr_schedule.h"

namespace hew::test {

/// Owns the arrays of a kernels::BsrIndex on the host.
struct BlockPattern {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t block = 0;
  std::vector<std::int32_t> crow{0};
  std::vector<std::int32_t> col{};
  std::vector<std::int32_t> ccol{0};
  std::vector<std::int32_t> row{};
  std::vector<std::int32_t> position{};

  kernels::BsrIndex index() const;
  std::int64_t nnzb() const { return static_cast<std::int64_t>(col.size()); }
  Shape values_shape() const { return {nnzb(), block, block}; }
};

/// The blocks for which `is_live(block row, block column)`.
template <class IsLive>
BlockPattern make_pattern(std::int64_t rows, std::int64_t cols, std::int64_t block,
                          const IsLive& is_live) {
  BlockPattern p{.rows = rows, .cols = cols, .block = block};
  const std::int64_t block_rows = (rows + block - 1) / block;
  const std::int64_t block_cols = (cols + block - 1) / block;
  std::vector<std::int64_t> position_of(static_cast<std::size_t>(block_rows * block_cols), -1);
  for (std::int64_t r = 0; r < block_rows; ++r) {
    for (std::int64_t c = 0; c < block_cols; ++c) {
      if (!is_live(r, c))
        continue;
      position_of[static_cast<std::size_t>(r * block_cols + c)] = p.nnzb();
      p.col.push_back(static_cast<std::int32_t>(c));
    }
    p.crow.push_back(static_cast<std::int32_t>(p.nnzb()));
  }
  for (std::int64_t c = 0; c < block_cols; ++c) {
    for (std::int64_t r = 0; r < block_rows; ++r) {
      const std::int64_t at = position_of[static_cast<std::size_t>(r * block_cols + c)];
      if (at < 0)
        continue;
      p.row.push_back(static_cast<std::int32_t>(r));
      p.position.push_back(static_cast<std::int32_t>(at));
    }
    p.ccol.push_back(static_cast<std::int32_t>(p.row.size()));
  }
  return p;
}

/// The block at (r, c) alone.
BlockPattern one_block(std::int64_t rows, std::int64_t cols, std::int64_t block, std::int64_t r,
                       std::int64_t c);

/// A pattern's index arrays on a stream's device, with a schedule where kernels have use for one.
class UploadedPattern {
 public:
  UploadedPattern(const BlockPattern& pattern, const Stream& stream);
  /// Valid while this object lives.
  kernels::BsrIndex index() const;

 private:
  kernels::BsrIndex index_;  // the pattern's, but for the arrays
  Tensor crow_;
  Tensor col_;
  Tensor ccol_;
  Tensor row_;
  Tensor position_;
  std::shared_ptr<const kernels::BsrSchedule> schedule_;
};

/// About that share of the blocks live: at 1 all of them, below it none in the second block row and
/// column.
BlockPattern random_pattern(std::int64_t rows, std::int64_t cols, std::int64_t block,
                            double density, std::uint64_t seed);

/// Dense [N, K] that the values stand for, by its definition.
Tensor fold(const Tensor& values, const BlockPattern& pattern);
/// Zero in the padding of the values, the rest as it is.
Tensor with_zero_padding(const Tensor& values, const BlockPattern& pattern);

}  // namespace hew::test
