#include "sparsity/pattern.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/block_index.h"
#include "kernels/blocks.h"

namespace hew::sparsity {

BsrPattern::BsrPattern(const BlockGrid& grid, const MaskBytes& mask, const Stream& stream)
    : grid_(grid) {
  require<ShapeError>(static_cast<std::int64_t>(mask.size()) == grid.blocks(),
                      "[bsr_pattern] mask has {} blocks, expected {}", mask.size(), grid.blocks());
  const std::int64_t block_rows = grid.block_rows();
  const std::int64_t block_cols = grid.block_cols();
  std::vector<std::int64_t>& live = live_.emplace();
  std::vector<std::int32_t> crow{0};
  std::vector<std::int32_t> col;
  std::vector<std::vector<std::int32_t>> by_column(static_cast<std::size_t>(block_cols));
  std::vector<std::vector<std::int32_t>> position_by_column(by_column.size());
  for (std::int64_t r = 0; r < block_rows; ++r) {
    for (std::int64_t c = 0; c < block_cols; ++c) {
      const std::int64_t block = r * block_cols + c;
      if (mask[static_cast<std::size_t>(block)] == 0)
        continue;
      const auto column = static_cast<std::size_t>(c);
      by_column[column].push_back(static_cast<std::int32_t>(r));
      position_by_column[column].push_back(static_cast<std::int32_t>(col.size()));
      col.push_back(static_cast<std::int32_t>(c));
      live.push_back(block);
    }
    crow.push_back(static_cast<std::int32_t>(col.size()));
  }
  nnzb_ = static_cast<std::int64_t>(col.size());
  std::vector<std::int32_t> ccol{0};
  std::vector<std::int32_t> row;
  std::vector<std::int32_t> position;
  for (std::size_t c = 0; c < by_column.size(); ++c) {
    row.insert(row.end(), by_column[c].begin(), by_column[c].end());
    position.insert(position.end(), position_by_column[c].begin(), position_by_column[c].end());
    ccol.push_back(static_cast<std::int32_t>(row.size()));
  }
  crow_ = Tensor::from(crow, {block_rows + 1}, stream);
  col_ = Tensor::from(col, {nnzb_}, stream);
  ccol_ = Tensor::from(ccol, {block_cols + 1}, stream);
  row_ = Tensor::from(row, {nnzb_}, stream);
  position_ = Tensor::from(position, {nnzb_}, stream);
  schedule_ = kernels::schedule_for({.rows = grid.rows,
                                     .cols = grid.cols,
                                     .block = grid.block,
                                     .nnzb = nnzb_,
                                     .crow = crow.data(),
                                     .col = col.data(),
                                     .ccol = ccol.data(),
                                     .row = row.data(),
                                     .position = position.data()},
                                    stream);
}

BsrPattern::BsrPattern(const BlockGrid& grid, const Tensor& mask, std::int64_t live)
    : grid_(grid), nnzb_(live) {
  const Stream& stream = mask.stream();
  auto ints = [&stream](std::int64_t n) { return Tensor::empty({n}, DType::kInt32, stream); };
  crow_ = ints(grid.block_rows() + 1);
  col_ = ints(live);
  ccol_ = ints(grid.block_cols() + 1);
  row_ = ints(live);
  position_ = ints(live);
  kernels::index_blocks({.mask = mask.reshape({grid.block_rows(), grid.block_cols()}),
                         .crow = crow_,
                         .col = col_,
                         .ccol = ccol_,
                         .row = row_,
                         .position = position_},
                        stream);
}

const std::vector<std::int64_t>& BsrPattern::live_blocks() const {
  if (live_)
    return *live_;
  const std::vector<std::int32_t> crow = crow_indices();
  const std::vector<std::int32_t> col = col_indices();
  std::vector<std::int64_t>& live = live_.emplace();
  live.reserve(col.size());
  for (std::size_t r = 0; r + 1 < crow.size(); ++r) {
    for (std::int32_t p = crow[r]; p < crow[r + 1]; ++p) {
      live.push_back(static_cast<std::int64_t>(r) * grid_.block_cols() +
                     col[static_cast<std::size_t>(p)]);
    }
  }
  return live;
}

kernels::BsrIndex BsrPattern::index() const {
  return {.rows = grid_.rows,
          .cols = grid_.cols,
          .block = grid_.block,
          .nnzb = nnzb_,
          .crow = crow_.data<std::int32_t>(),
          .col = col_.data<std::int32_t>(),
          .ccol = ccol_.data<std::int32_t>(),
          .row = row_.data<std::int32_t>(),
          .position = position_.data<std::int32_t>(),
          .schedule = schedule_.get()};
}

double BsrPattern::sparsity() const {
  return 1.0 - static_cast<double>(nnzb_) / static_cast<double>(grid_.blocks());
}

MaskBytes BsrPattern::mask() const {
  MaskBytes mask(static_cast<std::size_t>(grid_.blocks()), 0);
  for (const std::int64_t block : live_blocks()) mask[static_cast<std::size_t>(block)] = 1;
  return mask;
}

std::vector<std::int64_t> BsrPattern::sources_in(const BsrPattern& old) const {
  require<ShapeError>(grid_ == old.grid_, "[bsr_pattern] grids differ");
  const std::vector<std::int64_t>& before = old.live_blocks();
  std::vector<std::int64_t> sources;
  sources.reserve(live_blocks().size());
  for (const std::int64_t block : live_blocks()) {
    const auto found = std::lower_bound(before.begin(), before.end(), block);
    const bool held = found != before.end() && *found == block;
    sources.push_back(held ? found - before.begin() : -1);
  }
  return sources;
}

Tensor gather(const Tensor& dense, const BsrPattern& pattern) {
  const std::int64_t b = pattern.grid().block;
  Tensor values = Tensor::empty({pattern.nnzb(), b, b}, dense.dtype(), dense.stream());
  kernels::gather_blocks(dense, pattern.index(), values, dense.stream());
  return values;
}

Tensor scatter(const Tensor& values, const BsrPattern& pattern) {
  Tensor dense =
      Tensor::empty({pattern.grid().rows, pattern.grid().cols}, values.dtype(), values.stream());
  kernels::scatter_blocks(values, pattern.index(), dense, values.stream());
  return dense;
}

}  // namespace hew::sparsity
