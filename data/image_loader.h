#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/tensor.h"
#include "core/upload.h"
#include "data/image_config.h"
#include "data/image_read_ahead.h"
#include "data/image_set.h"
#include "data/loader.h"

namespace hew {

struct ImageBatch {
  Tensor images;                  // [b, channels, size, size] float32, normalised
  Tensor targets;                 // [b, classes] float32: rows add up to 1
  std::int64_t first_sample = 0;  // global index of the first row
};

struct ImageLoaderArgs {
  std::shared_ptr<const ImageSet> images = {};
  ImageTransformConfig transform = {};
  Stream stream = {};        // where the tensors are made
  std::int64_t classes = 0;  // of the model: at least those of the set
  std::uint64_t seed = 0;
  std::int64_t global_batch = 0;  // samples of a step, over all ranks
  std::int64_t micro_batch = 0;   // samples of one ImageBatch
  RankOfWorld ranks = {};
  std::int64_t position = 0;  // samples consumed by all ranks before the first step
  int threads = 0;            // that decode; 0: as many as the process may use
};

/// The batches of training steps, endlessly, under the contract of BatchLoader: the samples of a
/// step, and every number drawn to change them, depend on (seed, position) alone. Without repeats,
/// sample p is image shuffled(seed, ⌊p / n⌋, n, p mod n) of n. With r of them, sample j of the step
/// at position p is what sample p / r + j mod (G / r) would be, changed by numbers of its own. A
/// pool of threads reads up to two steps ahead.
class ImageLoader {
 public:
  /// Throws ConfigError unless global_batch is a multiple of ranks · micro_batch and of repeats,
  /// and DataError where the set has more classes.
  explicit ImageLoader(const ImageLoaderArgs& args);
  ImageLoader(const ImageLoader&) = delete;
  ImageLoader& operator=(const ImageLoader&) = delete;
  ~ImageLoader() = default;

  /// This rank's micro-batches of the next step. Throws what reading them threw, and then again on
  /// every call until seek(). On a GPU work on the images must be queued before the call after.
  std::vector<ImageBatch> next();
  /// Samples that all ranks have consumed: what a checkpoint keeps.
  std::int64_t position() const { return position_; }
  /// Goes on from here, as a loader made with this position would. A multiple of repeats.
  void seek(std::int64_t position);

 private:
  std::int64_t rank_samples() const { return args_.global_batch / args_.ranks.world; }
  /// Of samples counted within the global batch of the step at position `first`.
  std::int64_t image_of(std::int64_t first, std::int64_t sample) const;
  std::int64_t partner_of(std::int64_t sample) const {
    return sample > 0 ? sample - 1 : args_.global_batch - 1;
  }
  bool is_mixed() const;
  ImageStepPlan plan() const;
  void mix(std::int64_t first, std::span<float> slots) const;
  std::vector<float> targets(std::int64_t begin, std::int64_t count) const;

  ImageLoaderArgs args_;
  Upload upload_;
  std::int64_t position_ = 0;
  std::unique_ptr<ImageReadAhead> reader_;  // last, so that it stops before what it uses goes
};

struct LabelledImages {
  Tensor images;           // [b, channels, size, size] float32, normalised
  Tensor labels;           // [b] int32
  std::int64_t first = 0;  // number of the first image in the set
};

struct SequentialImagesArgs {
  std::shared_ptr<const ImageSet> images = {};
  ImageTransformConfig transform = {};
  Stream stream = {};
  std::int64_t micro_batch = 0;
  RankOfWorld ranks = {};
  std::optional<std::int64_t> max_images = {};  // only the first so many
  int threads = 0;
};

/// One pass over the images in their order, for evaluation: nothing random is done to them. Each
/// rank takes a contiguous share that differs by at most one image; its last batch may be smaller,
/// and it may have none.
class SequentialImages {
 public:
  /// Throws ConfigError.
  explicit SequentialImages(const SequentialImagesArgs& args);
  SequentialImages(const SequentialImages&) = delete;
  SequentialImages& operator=(const SequentialImages&) = delete;
  ~SequentialImages() = default;

  /// The next batch of this rank; nothing after the last. On a GPU work on the images must be
  /// queued before the call after.
  std::optional<LabelledImages> next();
  /// Batches of the rank that has the most.
  std::int64_t rounds() const { return rounds_; }
  /// Images of the whole pass, over all ranks: the divisor of a mean.
  std::int64_t total() const { return total_; }

 private:
  SequentialImagesArgs args_;
  Upload upload_;
  std::int64_t total_ = 0;
  std::int64_t rounds_ = 0;
  std::int64_t next_ = 0;  // of this rank
  std::int64_t end_ = 0;
  std::unique_ptr<ImageReadAhead> reader_;
};

}  // namespace hew
