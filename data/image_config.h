#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/named_enum.h"

namespace hew {

/// What is cut out of an image of another size.
enum class ImageCrop : std::uint8_t {
  kNone,           // nothing: every image must have the size
  kCenter,         // the middle, after the shorter side is made size / center_fraction
  kRandomResized,  // a random part of random aspect ratio, made size x size
};
template <>
struct EnumNames<ImageCrop> {
  static constexpr std::array kTable = {std::pair{ImageCrop::kNone, "none"},
                                        std::pair{ImageCrop::kCenter, "center"},
                                        std::pair{ImageCrop::kRandomResized, "random_resized"}};
};

/// Cubuk et al. 2019.
struct RandAugmentConfig {
  std::int64_t ops = 0;  // operations in a row; 0: off
  double magnitude = 9;  // in [0, 30]
  friend bool operator==(const RandAugmentConfig&, const RandAugmentConfig&) = default;
};

/// What happens to an image between its file and the model (docs/images.md). Training does all of
/// it, in the order of the members from `crop` on; evaluation takes the middle and normalises.
struct ImageTransformConfig {
  std::int64_t size = 0;             // height and width of what comes out
  std::int64_t channels = 3;         // 1 or 3; images of the other kind are converted
  std::vector<double> mean = {0.5};  // one for all channels or one each, of pixels in [0, 1]
  std::vector<double> std = {0.5};
  ImageCrop crop = ImageCrop::kNone;
  double center_fraction = 0.875;  // of the shorter side that is left by the middle
  double area_min = 0.08;          // random_resized: part of the image's area
  std::int64_t pad = 0;            // black pixels on all sides, of which size x size are cut out
  bool flip = false;               // left to right, half of the images
  RandAugmentConfig rand_augment = {};
  double erase = 0;          // probability that a rectangle becomes the mean (Zhong et al. 2017)
  double mixup = 0;          // alpha of Zhang et al. 2017; 0: off
  double cutmix = 0;         // alpha of Yun et al. 2019; 0: off. With both on, a batch has either
  std::int64_t repeats = 1;  // of each image in a global batch (Hoffer et al. 2019)
  friend bool operator==(const ImageTransformConfig&, const ImageTransformConfig&) = default;
};

/// Throws ConfigError that names the key, `data.image.size: …`.
void check_image_transform(const ImageTransformConfig& config);

}  // namespace hew
