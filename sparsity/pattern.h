#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/bsr.h"
#include "kernels/bsr_mlp_schedule.h"
#include "kernels/bsr_schedule.h"
#include "sparsity/selection.h"

namespace hew::sparsity {

/// A matrix [N, K] cut into b×b blocks: R = ⌈N/b⌉ block rows, C = ⌈K/b⌉ block columns.
struct BlockGrid {
  std::int64_t rows = 0;   // N
  std::int64_t cols = 0;   // K
  std::int64_t block = 0;  // b

  std::int64_t block_rows() const { return (rows + block - 1) / block; }
  std::int64_t block_cols() const { return (cols + block - 1) / block; }
  std::int64_t blocks() const { return block_rows() * block_cols(); }
  friend bool operator==(const BlockGrid&, const BlockGrid&) = default;
};

/// Which blocks of a matrix are to be live, one byte a block.
struct BlockMask {
  BlockGrid grid;
  MaskBytes mask;
};

class BsrPattern;
using PatternPtr = std::shared_ptr<const BsrPattern>;

/// Which blocks are live, as BSR indices with the transposed index beside them (methods.md §3),
/// int32 on the stream's device. Immutable; shared by the tape and the weight.
class BsrPattern {
 public:
  /// From one byte a block. Throws ShapeError if the mask does not have the grid's size.
  BsrPattern(const BlockGrid& grid, const MaskBytes& mask, const Stream& stream);
  /// From a mask uint8 [R·C] on its own stream, of which `live` blocks are live. On a GPU the host
  /// waits only where it asks for live_blocks() or what follows from them; so there is no schedule,
  /// and products go without (kernels::wants_schedule). Throws like kernels::index_blocks.
  BsrPattern(const BlockGrid& grid, const Tensor& mask, std::int64_t live);
  /// The patterns of several matrices at once: made on all threads and copied to the device
  /// together. They share the memory of their arrays, which goes with the last of them. Throws
  /// ShapeError if a mask does not have its grid's size.
  static std::vector<PatternPtr> of(std::span<const BlockMask> masks, const Stream& stream);

  const BlockGrid& grid() const { return grid_; }
  std::int64_t nnzb() const { return nnzb_; }
  double sparsity() const;
  /// The index arrays as the kernels take them; valid while this pattern lives.
  kernels::BsrIndex index() const;
  /// For kernels::bsr_mlp_forward with this as the first matrix and `down` as the second, valid
  /// while this pattern lives and is asked for no other; null where no kernel needs it. Made when
  /// first asked for, by one thread at a time.
  const kernels::BsrMlpSchedule* mlp_schedule(const PatternPtr& down) const;
  /// Block indices r·C + c of the live blocks, ascending: values[p] is block live_blocks()[p].
  const std::vector<std::int64_t>& live_blocks() const;
  MaskBytes mask() const;
  /// The index arrays on the host.
  std::vector<std::int32_t> crow_indices() const { return crow_.to_vector<std::int32_t>(); }
  std::vector<std::int32_t> col_indices() const { return col_.to_vector<std::int32_t>(); }
  /// For each of this pattern's blocks, where it was in `old`, or −1.
  std::vector<std::int64_t> sources_in(const BsrPattern& old) const;

 private:
  class Plan;
  explicit BsrPattern(const BlockGrid& grid) : grid_(grid) {}

  BlockGrid grid_;
  std::int64_t nnzb_ = 0;
  mutable std::optional<std::vector<std::int64_t>> live_;  // once asked for
  Tensor crow_;                                            // [R + 1]
  Tensor col_;                                             // [nnzb]
  Tensor ccol_;                                            // [C + 1]
  Tensor row_;                                             // [nnzb]
  Tensor position_;                                        // [nnzb]
  std::shared_ptr<const kernels::BsrSchedule> schedule_;   // null where no kernel needs it
  mutable std::weak_ptr<const BsrPattern> mlp_down_;       // whom mlp_schedule_ was made with
  mutable std::shared_ptr<const kernels::BsrMlpSchedule> mlp_schedule_;
};

/// The pattern's blocks of a dense [N, K] as values [nnzb, b, b], edges padded with zeros.
Tensor gather(const Tensor& dense, const BsrPattern& pattern);
/// values [nnzb, b, b] as a dense [N, K], zero where blocks are dead.
Tensor scatter(const Tensor& values, const BsrPattern& pattern);

}  // namespace hew::sparsity
