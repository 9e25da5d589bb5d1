#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "autograd/parameter.h"
#include "dist/comm.h"

namespace hew::dist {

/// Averages gradients over ranks: g ← (1/size)·Σ_ranks g, with equal bits on all ranks. Neighbours
/// in the list share buckets, so that small tensors do not each cost a round trip; a tensor of at
/// least a bucket's size is reduced where it lies. What is reduced is what is stored: a
/// block-sparse gradient [nnzb, b, b] sends its live blocks only. Buckets come from the tensors'
/// own allocator.
class GradientReducer {
 public:
  static constexpr std::int64_t kDefaultBucketBytes = std::int64_t{25} << 20U;

  /// `comm` must outlive the reducer. Throws ConfigError unless bucket_bytes > 0.
  explicit GradientReducer(Communicator& comm, std::int64_t bucket_bytes = kDefaultBucketBytes);

  /// Averages the gradients of all parameters that require one. The list is the same on all ranks.
  /// Throws Error, whatever the number of ranks, if such a parameter has no gradient: the graph
  /// does not reach it.
  void average(std::span<ag::Parameter* const> parameters);
  /// Averages one tensor in place, such as the dense gradient of a mask refresh.
  void average(Tensor& tensor);

  /// Bytes this rank has handed to all-reduce so far; 0 on one rank.
  std::int64_t bytes_reduced() const { return bytes_reduced_; }

 private:
  void average_bucket(std::span<Tensor> tensors);

  Communicator& comm_;
  std::int64_t bucket_bytes_;
  std::int64_t bytes_reduced_ = 0;
};

}  // namespace hew::dist
