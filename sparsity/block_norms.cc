#include "sparsity/block_norms.h"

#include <utility>

#include "core/memory.h"
#include "kernels/blocks.h"

namespace hew::sparsity {

std::size_t BlockNorms::add(Entry entry) {
  entry.begin = total_;
  total_ += entry.count;
  entries_.push_back(std::move(entry));
  return entries_.size() - 1;
}

std::size_t BlockNorms::add(const Tensor& dense, const BlockGrid& grid) {
  return add(Entry{
      .tensor = dense, .grid = grid, .live = nullptr, .wanted = nullptr, .count = grid.blocks()});
}

std::size_t BlockNorms::add_live(const LinearWeight& weight, const Tensor& tensor) {
  const PatternPtr& pattern = weight.pattern();
  const BlockGrid& grid = pattern->grid();
  if (weight.storage() == Storage::kLiveBlocks) {
    return add(Entry{.tensor = tensor,
                     .grid = grid,
                     .live = pattern,
                     .wanted = nullptr,
                     .count = pattern->nnzb()});
  }
  return add(Entry{
      .tensor = tensor, .grid = grid, .live = nullptr, .wanted = pattern, .count = grid.blocks()});
}

void BlockNorms::compute() {
  if (entries_.empty())
    return;
  const Stream stream = entries_.front().tensor.stream();  // which the loop gives up
  norms_ = Tensor::empty({total_}, DType::kFloat64, stream);
  for (Entry& entry : entries_) {
    const Tensor part = norms_.rows(entry.begin, entry.count);
    if (entry.live != nullptr) {
      Tensor norms = part;
      kernels::live_block_norms(entry.tensor, entry.live->index(), norms, stream);
    } else {
      Tensor norms = part.reshape({entry.grid.block_rows(), entry.grid.block_cols()});
      kernels::block_norms(entry.tensor, entry.grid.block, norms, stream);
    }
    entry.tensor = {};
  }
}

void BlockNorms::read(const Stream& through) {
  values_.resize(static_cast<std::size_t>(total_));
  if (norms_.defined()) {
    copy_memory(values_.data(), Device{}, std::as_const(norms_).view().data, norms_.device(),
                norms_.nbytes(), through);
  }
}

std::vector<double> BlockNorms::operator[](std::size_t entry) const {
  const Entry& e = entries_[entry];
  const auto first = values_.begin() + e.begin;
  if (e.wanted == nullptr)
    return {first, first + e.count};
  std::vector<double> out;
  for (const std::int64_t block : e.wanted->live_blocks()) out.push_back(first[block]);
  return out;
}

}  // namespace hew::sparsity
