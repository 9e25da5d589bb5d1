#include "data/augment_geometry.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numeric>

namespace hew {
namespace {

/// Pixels 1, 2, 3, …
DecodedImage counting(std::int64_t height, std::int64_t width, std::int64_t channels) {
  DecodedImage image{.pixels = {}, .height = height, .width = width, .channels = channels};
  image.pixels.resize(static_cast<std::size_t>(height * width * channels));
  std::iota(image.pixels.begin(), image.pixels.end(), std::uint8_t{1});
  return image;
}

std::uint8_t at(const DecodedImage& image, std::int64_t y, std::int64_t x, std::int64_t c) {
  if (y < 0 || x < 0 || y >= image.height || x >= image.width)
    return 0;
  return image.pixels[static_cast<std::size_t>((y * image.width + x) * image.channels + c)];
}

/// The image whose pixel (y, x) is pixel (y + down, x + right) of this one.
DecodedImage moved(const DecodedImage& image, std::int64_t down, std::int64_t right) {
  DecodedImage out = image;
  out.pixels.clear();
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (std::int64_t x = 0; x < image.width; ++x) {
      for (std::int64_t c = 0; c < image.channels; ++c) {
        out.pixels.push_back(at(image, y + down, x + right, c));
      }
    }
  }
  return out;
}

constexpr std::int64_t kSamples = 4000;

}  // namespace

TEST_CASE("numbers of a sample are uniform, and each of its own") {
  std::map<double, int> seen;
  double sum = 0;
  for (std::int64_t position = 0; position < 200; ++position) {
    const ImageDraws draws{7, position};
    for (const ImageDraw draw : {ImageDraw::kCrop, ImageDraw::kMix}) {
      for (std::uint64_t k = 0; k < 64; ++k) {
        const double value = draws.uniform(draw, k);
        CHECK((value >= 0 && value < 1));
        ++seen[value];
        sum += value;
      }
    }
  }
  CHECK(seen.size() == 200 * 2 * 64);
  // The deviation of the mean is 1 / sqrt(12 n).
  CHECK(std::abs(sum / 25600 - 0.5) < 5 / std::sqrt(12.0 * 25600));
  CHECK(ImageDraws{8, 0}.uniform(ImageDraw::kCrop, 0) !=
        ImageDraws{7, 0}.uniform(ImageDraw::kCrop, 0));
}

TEST_CASE("random resized boxes have the area and the ratio that they should") {
  const ImageShape image{3, 1000, 1000};
  double area_sum = 0;
  double log_ratio_sum = 0;
  double least = 1;
  for (std::int64_t position = 0; position < kSamples; ++position) {
    const ImageBox box = random_resized_box(image, 0.08, {1, position});
    REQUIRE((box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0));
    REQUIRE((box.top + box.height <= 1000 && box.left + box.width <= 1000));
    const double area = static_cast<double>(box.height * box.width) / 1e6;
    const double ratio = static_cast<double>(box.width) / static_cast<double>(box.height);
    CHECK((area > 0.079 && area <= 1.0));
    CHECK((ratio > 0.745 && ratio < 1.34));
    area_sum += area;
    log_ratio_sum += std::log(ratio);
    least = std::min(least, area);
  }
  // A box of area a fits where |log ratio| < -log a: of the areas above 3/4 some are left out, by
  // integration the mean is 0.5002.
  CHECK(std::abs(area_sum / kSamples - 0.5002) < 0.02);
  CHECK(std::abs(log_ratio_sum / kSamples) < 0.02);
  CHECK(least < 0.09);
  for (const auto& [height, width] : {std::pair{1, 100}, {100, 1}, {1, 1}, {3, 2}}) {
    for (std::int64_t position = 0; position < 50; ++position) {
      const ImageBox box = random_resized_box({1, height, width}, 0.9, {1, position});
      CHECK((box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0));
      CHECK((box.top + box.height <= height && box.left + box.width <= width));
    }
  }
  CHECK(random_resized_box({1, 10, 100}, 1, {1, 1}) == ImageBox{0, 43, 10, 13});
}

TEST_CASE("padding and cutting moves an image by up to the padding, each way alike") {
  for (const std::int64_t channels : {1, 3}) {
    const DecodedImage image = counting(5, 7, channels);
    std::map<std::pair<std::int64_t, std::int64_t>, int> counts;
    for (std::int64_t position = 0; position < kSamples; ++position) {
      const DecodedImage out = pad_and_cut(image, 2, {1, position});
      int matches = 0;
      for (std::int64_t down = -2; down <= 2; ++down) {
        for (std::int64_t right = -2; right <= 2; ++right) {
          if (out.pixels == moved(image, down, right).pixels) {
            ++counts[{down, right}];
            ++matches;
          }
        }
      }
      REQUIRE(matches == 1);
    }
    CHECK(counts.size() == 25);
    for (const auto& [by, count] : counts) CHECK(std::abs(count - kSamples / 25) < 80);
  }
  const DecodedImage dot = counting(1, 1, 1);
  int kept = 0;
  for (std::int64_t position = 0; position < kSamples; ++position) {
    kept += pad_and_cut(dot, 1, {1, position}).pixels[0];
  }
  CHECK(std::abs(kept - kSamples / 9) < 80);
}

TEST_CASE("half of the images are flipped") {
  for (const std::int64_t channels : {1, 3}) {
    for (const std::int64_t width : {1, 2, 5}) {
      const DecodedImage image = counting(3, width, channels);
      DecodedImage mirrored = image;
      for (std::int64_t i = 0; i < std::ssize(image.pixels); ++i) {
        const std::int64_t pixel = i / channels;
        const std::int64_t from = pixel - 2 * (pixel % width) + width - 1;
        mirrored.pixels[static_cast<std::size_t>(i)] =
            image.pixels[static_cast<std::size_t>(from * channels + i % channels)];
      }
      int flipped = 0;
      for (std::int64_t position = 0; position < 1000; ++position) {
        DecodedImage out = image;
        random_flip(out, {2, position});
        REQUIRE((out.pixels == image.pixels || out.pixels == mirrored.pixels));
        flipped += out.pixels == mirrored.pixels ? 1 : 0;
      }
      if (width > 1)
        CHECK(std::abs(flipped - 500) < 80);
    }
  }
}

TEST_CASE("erased boxes lie inside and have the area that they should") {
  double sum = 0;
  for (std::int64_t position = 0; position < kSamples; ++position) {
    const ImageBox box = random_erased_box(500, {3, position});
    REQUIRE((box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0));
    REQUIRE((box.top + box.height <= 500 && box.left + box.width <= 500));
    const double area = static_cast<double>(box.height * box.width) / 250000;
    CHECK((area > 0.0195 && area < 0.334));
    sum += area;
  }
  CHECK(std::abs(sum / kSamples - (0.02 + 1.0 / 3) / 2) < 0.01);
  for (std::int64_t position = 0; position < 50; ++position) {
    const ImageBox box = random_erased_box(1, {3, position});
    CHECK((box.height <= 1 && box.width <= 1));
  }
}

TEST_CASE("warping: nothing, whole pixels, half pixels, a quarter turn") {
  for (const std::int64_t channels : {1, 3}) {
    const DecodedImage image = counting(5, 5, channels);
    CHECK(warp(image, {1, 0, 0, 0, 1, 0}).pixels == image.pixels);
    CHECK(warp(image, {1, 0, 2, 0, 1, -1}).pixels == moved(image, -1, 2).pixels);
    CHECK(warp(image, {1, 0, 9, 0, 1, 0}).pixels == std::vector<std::uint8_t>(image.pixels.size()));
    const DecodedImage half = warp(image, {1, 0, 0.5, 0, 1, 0});
    const DecodedImage turned = warp(image, {0, 1, 0, -1, 0, 5});
    for (std::int64_t y = 0; y < 5; ++y) {
      for (std::int64_t x = 0; x < 5; ++x) {
        for (std::int64_t c = 0; c < channels; ++c) {
          CHECK(at(half, y, x, c) == (at(image, y, x, c) + at(image, y, x + 1, c) + 1) / 2);
          CHECK(at(turned, y, x, c) == at(image, 4 - x, y, c));
        }
      }
    }
  }
}

}  // namespace hew
