#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/image_config.h"
#include "data/image_draws.h"
#include "data/image_set.h"

namespace hew {

/// What ImageTransformConfig does to one image. Immutable, so safe to share between threads.
class ImageTransform {
 public:
  /// Throws ConfigError.
  explicit ImageTransform(const ImageTransformConfig& config);

  const ImageTransformConfig& config() const { return config_; }
  /// Numbers of one result, channels · size · size.
  std::int64_t numel() const { return config_.channels * config_.size * config_.size; }

  /// A training sample: out [channels, size, size], normalised. What is random depends on `draws`
  /// alone. Throws DataError for a size that the crop does not take.
  void train(DecodedImage image, const ImageDraws& draws, std::span<float> out) const;
  /// The same without anything random.
  void evaluate(DecodedImage image, std::span<float> out) const;
  /// Throws DataError for a size that the crop does not take.
  void require_size(const ImageShape& shape) const;

 private:
  DecodedImage middle(const DecodedImage& image) const;
  void normalise(const DecodedImage& image, std::span<float> out) const;

  ImageTransformConfig config_;
  std::vector<std::array<float, 256>> value_of_;  // by channel and byte
};

}  // namespace hew
