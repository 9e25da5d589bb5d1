#include "sparsity/pattern.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/block_index.h"
#include "kernels/blocks.h"

namespace hew::sparsity {

namespace {

using Ints = std::vector<std::int32_t>;

// Parts of what is copied to a device begin at a multiple of so many words.
constexpr std::int64_t kAlignment = kernels::BsrPlan::kAlignment;

std::int64_t aligned(std::int64_t words) {
  return (words + kAlignment - 1) / kAlignment * kAlignment;
}

// The rows of an index on the host.
class HostRows {
 public:
  explicit HostRows(const BsrPattern& pattern) {
    const std::int64_t width = pattern.grid().block_cols();
    for (const std::int64_t block : pattern.live_blocks()) {
      begin_row(block / width);
      col_.push_back(static_cast<std::int32_t>(block % width));
    }
    begin_row(pattern.grid().block_rows());
  }
  kernels::BsrIndex index(const BsrPattern& pattern) const {
    kernels::BsrIndex index = pattern.index();
    index.crow = crow_.data();
    index.col = col_.data();
    return index;
  }

 private:
  // So do the rows before it that have no block.
  void begin_row(std::int64_t row) {
    crow_.resize(static_cast<std::size_t>(row) + 1, static_cast<std::int32_t>(col_.size()));
  }

  Ints crow_;
  Ints col_;
};

}  // namespace

// A pattern on the host: the words of its schedule, if it has one, and those of its index.
class BsrPattern::Plan {
 public:
  Plan(const BlockGrid& grid, const MaskBytes& mask, const Stream& stream) : grid_(grid) {
    require<ShapeError>(std::ssize(mask) == grid.blocks(),
                        "[bsr_pattern] mask has {} blocks, expected {}", mask.size(),
                        grid.blocks());
    for (std::size_t block = 0; block < mask.size(); ++block) {
      if (mask[block] != 0)
        live_.push_back(static_cast<std::int64_t>(block));
    }
    index_.resize(static_cast<std::size_t>(place_arrays()));
    make_index(mask);
    if (kernels::wants_schedule(grid.block, stream))
      schedule_.emplace(index(index_.data()), stream);
  }

  std::int64_t words() const { return schedule_words() + aligned(std::ssize(index_)); }
  void write(std::span<std::int32_t> words) const {
    if (schedule_)
      std::copy(schedule_->words().begin(), schedule_->words().end(), words.begin());
    std::copy(index_.begin(), index_.end(), words.begin() + schedule_words());
  }
  // The pattern, given where its words are.
  void finish(BsrPattern& out, const Tensor& words) && {
    out.nnzb_ = std::ssize(live_);
    out.live_ = std::move(live_);
    const Tensor index = words.rows(schedule_words(), std::ssize(index_));
    const std::array<Tensor*, kArrays> arrays{&out.crow_, &out.col_, &out.ccol_, &out.row_,
                                              &out.position_};
    for (std::size_t a = 0; a < kArrays; ++a) *arrays[a] = index.rows(begin_[a], length_[a]);
    if (schedule_) {
      out.schedule_ = std::make_shared<const kernels::BsrSchedule>(
          *schedule_, words.rows(0, std::ssize(schedule_->words())));
    }
  }

 private:
  static constexpr std::size_t kArrays = 5;  // crow, col, ccol, row, position

  std::int64_t schedule_words() const {
    return schedule_ ? aligned(std::ssize(schedule_->words())) : 0;
  }

  // Returns the words of all.
  std::int64_t place_arrays() {
    const std::int64_t nnzb = std::ssize(live_);
    length_ = {grid_.block_rows() + 1, nnzb, grid_.block_cols() + 1, nnzb, nnzb};
    std::int64_t end = 0;
    for (std::size_t a = 0; a < kArrays; ++a) {
      begin_[a] = end;
      end += aligned(length_[a]);
    }
    return end;
  }

  void make_index(const MaskBytes& mask) {
    const Stream cpu;
    auto array = [this](std::size_t a) {
      return View{.data = index_.data() + begin_[a],
                  .shape = {length_[a]},
                  .dtype = DType::kInt32,
                  .device = {}};
    };
    kernels::index_blocks(kernels::Cpu{cpu},
                          {.mask = {.data = mask.data(),
                                    .shape = {grid_.block_rows(), grid_.block_cols()},
                                    .dtype = DType::kUInt8,
                                    .device = {}},
                           .crow = array(0),
                           .col = array(1),
                           .ccol = array(2),
                           .row = array(3),
                           .position = array(4)});
  }

  kernels::BsrIndex index(const std::int32_t* words) const {
    return {.rows = grid_.rows,
            .cols = grid_.cols,
            .block = grid_.block,
            .nnzb = std::ssize(live_),
            .crow = words + begin_[0],
            .col = words + begin_[1],
            .ccol = words + begin_[2],
            .row = words + begin_[3],
            .position = words + begin_[4]};
  }

  BlockGrid grid_;
  std::vector<std::int64_t> live_;
  std::array<std::int64_t, kArrays> begin_{};
  std::array<std::int64_t, kArrays> length_{};
  Ints index_;
  std::optional<kernels::BsrPlan> schedule_;
};

std::vector<PatternPtr> BsrPattern::of(std::span<const BlockMask> masks, const Stream& stream) {
  std::vector<std::optional<Plan>> plans(masks.size());
  for_each_parallel(std::ssize(masks),
                    [&](std::size_t i) { plans[i].emplace(masks[i].grid, masks[i].mask, stream); });
  std::vector<std::int64_t> begin{0};
  for (const std::optional<Plan>& plan : plans) begin.push_back(begin.back() + plan->words());
  Ints words(static_cast<std::size_t>(begin.back()));
  for_each_parallel(std::ssize(masks), [&](std::size_t i) {
    plans[i]->write(std::span(words).subspan(static_cast<std::size_t>(begin[i])));
  });
  const Tensor uploaded = Tensor::from(words, {std::ssize(words)}, stream);
  std::vector<PatternPtr> patterns;
  for (std::size_t i = 0; i < masks.size(); ++i) {
    auto pattern = std::shared_ptr<BsrPattern>(new BsrPattern(masks[i].grid));
    std::move(*plans[i]).finish(*pattern, uploaded.rows(begin[i], begin[i + 1] - begin[i]));
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

BsrPattern::BsrPattern(const BlockGrid& grid, const MaskBytes& mask, const Stream& stream)
    : grid_(grid) {
  Plan plan(grid, mask, stream);
  Ints words(static_cast<std::size_t>(plan.words()));
  plan.write(words);
  std::move(plan).finish(*this, Tensor::from(words, {std::ssize(words)}, stream));
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

const kernels::BsrMlpSchedule* BsrPattern::mlp_schedule(const PatternPtr& down) const {
  if (crow_.device().is_cpu())
    return nullptr;
  if (mlp_down_.lock() == down)
    return mlp_schedule_.get();
  const HostRows of_up(*this);
  const HostRows of_down(*down);
  mlp_schedule_ =
      kernels::mlp_schedule_for(of_up.index(*this), of_down.index(*down), crow_.stream());
  mlp_down_ = down;
  return mlp_schedule_.get();
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
  std::size_t p = 0;  // both ascend
  for (const std::int64_t block : live_blocks()) {
    while (p < before.size() && before[p] < block) ++p;
    const bool held = p < before.size() && before[p] == block;
    sources.push_back(held ? static_cast<std::int64_t>(p) : -1);
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
