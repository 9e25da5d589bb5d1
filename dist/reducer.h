#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "autograd/parameter.h"
#include "dist/comm.h"

namespace hew::cuda {
class Mark;
}

namespace hew::dist {

struct ReducerOptions {
  /// Small enough that the first bucket starts early, large enough to fill the connections. 100 MiB
  /// are 1 % faster than 25 on two H100s (docs/results/gpu-h100.md).
  std::int64_t bucket_bytes = std::int64_t{100} << 20U;
  /// Smaller gradients travel together, with the last bucket: what they would hide beside the
  /// backward pass is less than what it costs to begin.
  std::int64_t small_bytes = std::int64_t{256} << 10U;
};

/// What a rank gets of the means: all of every gradient, or its own slices only (dist/slices.h),
/// and then what it holds of the others is undefined.
enum class Share { kWhole, kSlices };

/// Averages gradients over ranks: g ← (1/size)·Σ_ranks g, with equal bits on all ranks. Neighbours
/// in the list share buckets, so that small tensors do not each cost a round trip. What is reduced
/// is what is stored: a block-sparse gradient [nnzb, b, b] sends its live blocks only.
///
/// On a GPU a bucket is reduced where its gradients lie, on a stream beside theirs, while backward
/// goes on (Communicator::all_reduce_beside), and the last one, which is complete when that ends,
/// as fast as can be; on the host at once, small ones through a buffer from the tensors' own
/// allocator.
class GradientReducer {
 public:
  /// `comm` must outlive the reducer. Throws ConfigError unless bucket_bytes > 0.
  explicit GradientReducer(Communicator& comm, const ReducerOptions& options = {});
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;
  /// After an error, with buckets under way, the communicator gives up.
  ~GradientReducer();

  /// Before the backward sweep that completes the gradients: divides the parameters that require
  /// one into buckets, from the last to the first as backward reaches them. The list is the same on
  /// all ranks.
  void begin(std::span<ag::Parameter* const> parameters, Share share = Share::kWhole);
  /// The gradient of one of them is complete, and is not written to before finish(). Buckets start
  /// in one order on all ranks, each when it and all before it are complete. Others are passed
  /// over.
  void ready(const ag::Parameter& parameter) { ready(parameter.var.key()); }
  /// The same by Variable::key(), as ag::BackwardHooks gives it.
  void ready(const void* leaf);
  /// Starts what is left; what comes next on the gradients' stream finds all means. Throws Error,
  /// whatever the number of ranks, if a parameter has no gradient: the graph does not reach it.
  void finish();

  /// begin() and finish(): averages the gradients as they are.
  void average(std::span<ag::Parameter* const> parameters, Share share = Share::kWhole);
  /// Averages one tensor in place, such as the dense gradient of a mask refresh.
  void average(Tensor& tensor);

  /// Bytes this rank has handed over to be reduced so far; 0 on one rank.
  std::int64_t bytes_reduced() const { return bytes_reduced_; }

 private:
  struct Bucket {
    std::vector<ag::Parameter*> parameters;
    std::size_t missing = 0;
  };
  void start_complete_buckets();
  void start_next();
  void start_beside(std::span<Tensor> gradients);
  void average_packed(std::span<Tensor> gradients);
  void reduce(const View& view, const Stream& stream);

  Communicator& comm_;
  ReducerOptions options_;
  Share share_ = Share::kWhole;
  bool beside_ = true;  // a backward sweep goes on
  std::vector<Bucket> buckets_;
  std::unordered_map<const void*, std::size_t> bucket_of_;  // those not ready yet
  std::size_t next_ = 0;                                    // bucket to start
  std::vector<Tensor> in_flight_;
  Stream side_;  // of GPUs: made with the first bucket
  std::unique_ptr<cuda::Mark> mark_;
  std::int64_t bytes_reduced_ = 0;
};

}  // namespace hew::dist
