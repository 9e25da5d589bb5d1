#include "data/rand_augment.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/rng.h"
#include "data/augment_colour.h"
#include "data/augment_geometry.h"

namespace hew {
namespace {

DecodedImage random_image(std::int64_t side, std::int64_t channels) {
  DecodedImage image{.pixels = {}, .height = side, .width = side, .channels = channels};
  for (std::int64_t i = 0; i < side * side * channels; ++i) {
    image.pixels.push_back(
        static_cast<std::uint8_t>(20 + uniform_below(5, 0, static_cast<std::uint64_t>(i), 200)));
  }
  return image;
}

std::vector<std::uint8_t> after(RandAugmentOp op, double strength, DecodedImage image) {
  apply(op, strength, image);
  return image.pixels;
}

}  // namespace

TEST_CASE("at strength 0 an image stays, but for the two that have none") {
  for (const std::int64_t channels : {1, 3}) {
    const DecodedImage image = random_image(17, channels);
    for (std::int64_t i = 0; i < kRandAugmentOps; ++i) {
      const auto op = static_cast<RandAugmentOp>(i);
      const bool has_strength =
          op != RandAugmentOp::kAutoContrast && op != RandAugmentOp::kEqualize;
      CHECK_MESSAGE((after(op, 0, image) == image.pixels) == has_strength, i);
    }
  }
}

TEST_CASE("at full strength each does what its range says") {
  const DecodedImage image = random_image(331, 1);
  const auto at = [&](const std::vector<std::uint8_t>& pixels, int y, int x) {
    return pixels[static_cast<std::size_t>(y * 331 + x)];
  };
  const auto right = after(RandAugmentOp::kTranslateX, 1, image);
  const auto left = after(RandAugmentOp::kTranslateX, -1, image);
  const auto down = after(RandAugmentOp::kTranslateY, 1, image);
  const auto sheared = after(RandAugmentOp::kShearX, 1, image);
  for (int i = 0; i < 331; i += 30) {
    CHECK(at(right, i, 7) == at(image.pixels, i, 157));
    CHECK(at(right, i, 200) == 0);
    CHECK(at(left, i, 157) == at(image.pixels, i, 7));
    CHECK(at(down, 7, i) == at(image.pixels, 157, i));
    // Row 8 is moved by 0.3 · 8.5 = 2.55 pixels.
    CHECK(std::abs(at(sheared, 8, i) - (0.45 * at(image.pixels, 8, std::min(330, i + 2)) +
                                        0.55 * (i + 3 > 330 ? 0 : at(image.pixels, 8, i + 3)))) <=
          (i + 3 > 330 ? 255 : 1));
  }
  const auto turned = after(RandAugmentOp::kRotate, 1, image);
  CHECK(at(turned, 165, 165) == at(image.pixels, 165, 165));  // the middle stays
  // 30 degrees: the pixel 100 to the right of the middle comes from 86.6 right and 50 up of it.
  DecodedImage spot = random_image(331, 1);
  std::ranges::fill(spot.pixels, std::uint8_t{0});
  for (int y = 113; y <= 117; ++y) {
    for (int x = 250; x <= 254; ++x) spot.pixels[static_cast<std::size_t>(y * 331 + x)] = 255;
  }
  CHECK(at(after(RandAugmentOp::kRotate, 1, spot), 165, 265) == 255);
  CHECK(at(after(RandAugmentOp::kRotate, -1, spot), 165, 265) == 0);

  const DecodedImage colour = random_image(13, 3);
  const auto same = [&](RandAugmentOp op, double strength, auto change, auto... args) {
    DecodedImage expected = colour;
    change(expected, args...);
    CHECK(after(op, strength, colour) == expected.pixels);
  };
  same(RandAugmentOp::kBrightness, 1, change_brightness, 1.9);
  same(RandAugmentOp::kColor, -1, change_saturation, 1 - 0.9);
  same(RandAugmentOp::kContrast, -0.5, change_contrast, 1 - 0.45);
  same(RandAugmentOp::kSharpness, 1, change_sharpness, 1.9);
  same(RandAugmentOp::kPosterize, -1, posterize, 4);
  same(RandAugmentOp::kPosterize, 0.3, posterize, 7);
  same(RandAugmentOp::kSolarize, 1, solarize, 0.0);
  same(RandAugmentOp::kSolarize, -0.5, solarize, 128.0);
  same(RandAugmentOp::kAutoContrast, 1, stretch_contrast);
  same(RandAugmentOp::kEqualize, 1, equalize);
}

TEST_CASE("operations are drawn alike, with either sign, for each sample anew") {
  const DecodedImage image = random_image(31, 3);
  const RandAugmentConfig config{.ops = 1, .magnitude = 15};
  std::map<std::vector<std::uint8_t>, int> counts;
  constexpr int kSamples = 2800;
  for (std::int64_t position = 0; position < kSamples; ++position) {
    DecodedImage out = image;
    rand_augment(config, {4, position}, out);
    ++counts[out.pixels];
  }
  int distinct = 0;
  for (std::int64_t i = 0; i < kRandAugmentOps; ++i) {
    const auto op = static_cast<RandAugmentOp>(i);
    const auto plus = after(op, 0.5, image);
    const auto minus = after(op, -0.5, image);
    const int expected = kSamples / static_cast<int>(kRandAugmentOps);
    if (plus == minus) {
      CHECK(std::abs(counts[plus] - expected) < 75);
      distinct += 1;
    } else {
      CHECK(std::abs(counts[plus] - expected / 2) < 50);
      CHECK(std::abs(counts[minus] - expected / 2) < 50);
      distinct += 2;
    }
  }
  CHECK(std::ssize(counts) == distinct);
  DecodedImage none = image;
  rand_augment({.ops = 0, .magnitude = 30}, {4, 1}, none);
  CHECK(none.pixels == image.pixels);
}

}  // namespace hew
