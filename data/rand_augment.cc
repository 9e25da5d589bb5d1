#include "data/rand_augment.h"

#include <cmath>
#include <numbers>

#include "data/augment_colour.h"
#include "data/augment_geometry.h"

namespace hew {
namespace {

constexpr double kMostMagnitude = 30;
constexpr double kShear = 0.3;
constexpr double kShift = 150.0 / 331.0;  // of the side, after the 331 pixels of the first paper
constexpr double kTurn = 30 * std::numbers::pi / 180;
constexpr double kFactor = 0.9;

/// Where the image turned by `angle` about its middle comes from.
AffineMap rotation(const DecodedImage& image, double angle) {
  const double c = std::cos(angle);
  const double s = std::sin(angle);
  const double x = static_cast<double>(image.width) / 2;
  const double y = static_cast<double>(image.height) / 2;
  return {c, s, x - c * x - s * y, -s, c, y + s * x - c * y};
}

/// By whole pixels: a picture is not blurred by being moved.
double shift(double strength, std::int64_t side) {
  return std::trunc(strength * kShift * static_cast<double>(side));
}

}  // namespace

void apply(RandAugmentOp op, double strength, DecodedImage& image) {
  const double size = std::abs(strength);
  switch (op) {
    case RandAugmentOp::kIdentity:
      return;
    case RandAugmentOp::kShearX:
      image = warp(image, {1, strength * kShear, 0, 0, 1, 0});
      return;
    case RandAugmentOp::kShearY:
      image = warp(image, {1, 0, 0, strength * kShear, 1, 0});
      return;
    case RandAugmentOp::kTranslateX:
      image = warp(image, {1, 0, shift(strength, image.width), 0, 1, 0});
      return;
    case RandAugmentOp::kTranslateY:
      image = warp(image, {1, 0, 0, 0, 1, shift(strength, image.height)});
      return;
    case RandAugmentOp::kRotate:
      image = warp(image, rotation(image, strength * kTurn));
      return;
    case RandAugmentOp::kBrightness:
      return change_brightness(image, 1 + strength * kFactor);
    case RandAugmentOp::kColor:
      return change_saturation(image, 1 + strength * kFactor);
    case RandAugmentOp::kContrast:
      return change_contrast(image, 1 + strength * kFactor);
    case RandAugmentOp::kSharpness:
      return change_sharpness(image, 1 + strength * kFactor);
    case RandAugmentOp::kPosterize:
      return posterize(image, 8 - static_cast<int>(std::lround(4 * size)));
    case RandAugmentOp::kSolarize:
      return solarize(image, 256 * (1 - size));
    case RandAugmentOp::kAutoContrast:
      return stretch_contrast(image);
    case RandAugmentOp::kEqualize:
      return equalize(image);
  }
}

void rand_augment(const RandAugmentConfig& config, const ImageDraws& draws, DecodedImage& image) {
  for (std::int64_t i = 0; i < config.ops; ++i) {
    const auto k = static_cast<std::uint64_t>(2 * i);
    const auto op =
        static_cast<RandAugmentOp>(draws.below(ImageDraw::kRandAugment, k, kRandAugmentOps));
    const bool negative = draws.uniform(ImageDraw::kRandAugment, k + 1) < 0.5;
    const double strength = config.magnitude / kMostMagnitude;
    apply(op, negative ? -strength : strength, image);
  }
}

}  // namespace hew
