#pragma once

#include <array>
#include <cstdint>

#include "data/image_config.h"
#include "data/image_draws.h"
#include "data/image_set.h"

namespace hew {

/// The fourteen operations of RandAugment (Cubuk et al. 2019).
enum class RandAugmentOp : std::uint8_t {
  kIdentity,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
  kRotate,
  kBrightness,
  kColor,
  kContrast,
  kSharpness,
  kPosterize,
  kSolarize,
  kAutoContrast,
  kEqualize,
};
inline constexpr std::int64_t kRandAugmentOps = 14;

/// One operation, in place. `strength` in [-1, 1] is magnitude / 30, its sign for operations that
/// have two directions; at the full strength an image is sheared by 0.3, moved by 150/331 of its
/// side, turned by 30 degrees, changed by a factor 1 ± 0.9, left with 4 bits, or inverted from 0
/// on.
void apply(RandAugmentOp op, double strength, DecodedImage& image);

/// config.ops operations in a row, each any of the fourteen with either sign.
void rand_augment(const RandAugmentConfig& config, const ImageDraws& draws, DecodedImage& image);

}  // namespace hew
