#pragma once

#include <cstddef>
#include <vector>

#include "sparsity/linear_weight.h"

namespace hew::sparsity {

/// Norms ‖block‖_F / √(its real elements) of several tensors of one stream, computed there and
/// brought to the host in one copy: add all, compute, read.
class BlockNorms {
 public:
  /// Of every block of a dense [N, K], row-major over the grid. Returns the number of the entry.
  std::size_t add(const Tensor& dense, const BlockGrid& grid);
  /// Of the live blocks only, in the pattern's order. `tensor` is the weight's parameter or
  /// something of its shape (its gradient).
  std::size_t add_live(const LinearWeight& weight, const Tensor& tensor);

  /// Queues the computation.
  void compute();
  /// The host waits for the norms: for `through`, a stream of the tensors' device that comes to
  /// rest after compute(). Nothing is done where there are no entries.
  void read(const Stream& through);
  /// Of an entry, once they have been read.
  std::vector<double> operator[](std::size_t entry) const;

 private:
  struct Entry {
    Tensor tensor;
    BlockGrid grid;
    PatternPtr live;    // the tensor holds these blocks only; null: all
    PatternPtr wanted;  // only these blocks are; null: all that are held
    std::int64_t begin = 0;
    std::int64_t count = 0;
  };
  std::size_t add(Entry entry);

  std::vector<Entry> entries_;
  std::int64_t total_ = 0;
  Tensor norms_;  // float64 [total], where the tensors are
  std::vector<double> values_;
};

}  // namespace hew::sparsity
