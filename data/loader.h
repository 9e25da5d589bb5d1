#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/tensor.h"
#include "data/token_dataset.h"

namespace hew {

/// Which process of how many; each takes its share of the samples.
struct RankOfWorld {
  int rank = 0;
  int world = 1;
};

struct Batch {
  Tensor inputs;                  // [b, T] int32
  Tensor targets;                 // [b, T] int32: the inputs, one token later
  std::int64_t first_sample = 0;  // global index of the first row
};

struct BatchLoaderArgs {
  std::shared_ptr<const TokenDataset> dataset;
  Stream stream;  // where the tensors are made
  std::uint64_t seed = 0;
  std::int64_t global_batch = 0;  // samples of a step, over all ranks
  std::int64_t micro_batch = 0;   // samples of one Batch
  RankOfWorld ranks;
  std::int64_t position = 0;  // samples consumed by all ranks before the first step
};

/// The batches of training steps, endlessly. The step at position p takes the samples
/// [p, p + global_batch) of TokenDataset::sample; rank r of W the r-th of W equal slices of them,
/// and its micro-batches that slice in order. So the samples of a step do not depend on the number
/// of ranks, and may reach into the next epoch. A thread reads up to two steps ahead.
class BatchLoader {
 public:
  /// Throws ConfigError unless global_batch is a multiple of ranks · micro_batch.
  explicit BatchLoader(const BatchLoaderArgs& args);
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;
  ~BatchLoader() = default;

  /// This rank's micro-batches of the next step. Throws what reading them threw, and then again on
  /// every call until seek().
  std::vector<Batch> next();
  /// Samples that all ranks have consumed: what a checkpoint keeps.
  std::int64_t position() const { return position_; }
  /// Goes on from here, as a loader made with this position would.
  void seek(std::int64_t position);

 private:
  struct Step {
    std::vector<std::int32_t> tokens;  // [samples of this rank, T + 1]
    std::exception_ptr error;
  };
  Step read_step(std::int64_t position) const;
  void read_ahead(const std::stop_token& stop, std::int64_t position);

  BatchLoaderArgs args_;
  std::int64_t position_ = 0;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Step> ready_;
  std::jthread reader_;  // last, so that it stops before what it uses goes
};

/// One pass over all windows in reading order, for validation. Each rank takes a contiguous share
/// that differs by at most one window; its last batch may be smaller, and it may have none.
class SequentialBatches {
 public:
  /// With `max_windows` only the first so many windows are taken. Throws ConfigError.
  SequentialBatches(std::shared_ptr<const TokenDataset> dataset, const Stream& stream,
                    std::int64_t micro_batch, RankOfWorld ranks = {},
                    std::optional<std::int64_t> max_windows = {});

  /// The next batch of this rank; its tokens are inputs.numel(). Nothing after the last.
  std::optional<Batch> next();
  /// Batches of the rank that has the most.
  std::int64_t rounds() const { return rounds_; }
  /// Target tokens of the whole pass, over all ranks: the divisor of a mean over tokens.
  std::int64_t total_tokens() const { return windows_ * dataset_->context(); }

 private:
  std::shared_ptr<const TokenDataset> dataset_;
  Stream stream_;
  std::int64_t micro_batch_;
  std::int64_t windows_;
  std::int64_t rounds_ = 0;
  std::int64_t begin_ = 0;  // next window of this rank
  std::int64_t end_ = 0;
};

}  // namespace hew
