#include "train/bsr_record.h"

namespace hew::train {

BsrRecord to_record(const sparsity::LinearWeight& weight, const std::string& name) {
  const sparsity::BsrPattern& pattern = *weight.pattern();
  return {.name = name,
          .rows = pattern.grid().rows,
          .cols = pattern.grid().cols,
          .block = pattern.grid().block,
          .crow_indices = pattern.crow_indices(),
          .col_indices = pattern.col_indices(),
          .values = weight.live_values()};
}

sparsity::PatternPtr pattern_of(const BsrRecord& record, const Stream& stream) {
  const sparsity::BlockGrid grid{.rows = record.rows, .cols = record.cols, .block = record.block};
  sparsity::MaskBytes mask(static_cast<std::size_t>(grid.blocks()), 0);
  for (std::int64_t r = 0; r < grid.block_rows(); ++r) {
    const auto row = static_cast<std::size_t>(r);
    for (std::int32_t p = record.crow_indices[row]; p < record.crow_indices[row + 1]; ++p) {
      const std::int64_t column = record.col_indices[static_cast<std::size_t>(p)];
      mask[static_cast<std::size_t>(r * grid.block_cols() + column)] = 1;
    }
  }
  return std::make_shared<const sparsity::BsrPattern>(grid, mask, stream);
}

}  // namespace hew::train
