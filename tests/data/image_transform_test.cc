#include "data/image_transform.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "data/augment_geometry.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

DecodedImage counting(std::int64_t height, std::int64_t width, std::int64_t channels) {
  DecodedImage image{.pixels = {}, .height = height, .width = width, .channels = channels};
  image.pixels.resize(static_cast<std::size_t>(height * width * channels));
  std::iota(image.pixels.begin(), image.pixels.end(), std::uint8_t{0});
  return image;
}

ImageTransformConfig plain(std::int64_t size, std::int64_t channels) {
  ImageTransformConfig config;
  config.size = size;
  config.channels = channels;
  config.mean = {0};
  config.std = {1.0 / 255};  // what comes out are bytes
  return config;
}

std::vector<float> trained(const ImageTransformConfig& config, const DecodedImage& image,
                           std::int64_t position = 0) {
  const ImageTransform transform(config);
  std::vector<float> out(static_cast<std::size_t>(transform.numel()));
  transform.train(image, {1, position}, out);
  return out;
}

std::vector<float> evaluated(const ImageTransformConfig& config, const DecodedImage& image) {
  const ImageTransform transform(config);
  std::vector<float> out(static_cast<std::size_t>(transform.numel()));
  transform.evaluate(image, out);
  return out;
}

/// The image's bytes, channel by channel.
std::vector<float> planes(const DecodedImage& image) {
  std::vector<float> out;
  for (std::int64_t c = 0; c < image.channels; ++c) {
    for (std::int64_t i = c; i < std::ssize(image.pixels); i += image.channels) {
      out.push_back(image.pixels[static_cast<std::size_t>(i)]);
    }
  }
  return out;
}

bool close(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) { return std::abs(x - y) <= 1e-4F; });
}

}  // namespace

TEST_CASE("normalisation: (pixel / 255 - mean) / std, channel by channel") {
  ImageTransformConfig config = plain(3, 3);
  config.mean = {0.1, 0.2, 0.3};
  config.std = {0.5, 0.25, 2};
  const DecodedImage image = counting(3, 3, 3);
  const auto out = trained(config, image);
  CHECK(out == evaluated(config, image));
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t p = 0; p < 9; ++p) {
      const double expected =
          (static_cast<double>(3 * p + c) / 255 - config.mean[c]) / config.std[c];
      CHECK(std::abs(out[c * 9 + p] - expected) < 1e-6);
    }
  }
}

TEST_CASE("grey is spread over three channels, colour becomes luma") {
  CHECK(close(trained(plain(2, 3), counting(2, 2, 1)), {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}));
  const DecodedImage red{.pixels = {255, 0, 0}, .height = 1, .width = 1, .channels = 3};
  CHECK(close(trained(plain(1, 1), red), {76}));
}

TEST_CASE("crops take what they say, and evaluation the middle") {
  const DecodedImage image = counting(9, 14, 1);
  ImageTransformConfig config = plain(4, 1);
  const auto error = [&] { return test::data_error_of([&] { trained(config, image); }); };
  CHECK(error() == "9 x 14 pixels, expected 4 x 4 (data.image.crop can cut that out)");
  config.crop = ImageCrop::kCenter;
  config.center_fraction = 0.5;
  const auto middle = planes(cut_middle(resize_shorter_side(image, 8), 4));
  CHECK(close(trained(config, image), middle));
  CHECK(close(evaluated(config, image), middle));
  config.center_fraction = 0.6;  // 6.67 is rounded down, as timm does
  CHECK(close(evaluated(config, image), planes(cut_middle(resize_shorter_side(image, 6), 4))));
  config.center_fraction = 0.5;
  config.crop = ImageCrop::kRandomResized;
  CHECK(close(evaluated(config, image), middle));
  for (std::int64_t position = 0; position < 20; ++position) {
    const ImageBox box = random_resized_box(image.shape(), config.area_min, {1, position});
    CHECK(close(trained(config, image, position), planes(resize(image, box, 4, 4))));
  }
}

TEST_CASE("every change is made, in its place, and none for evaluation") {
  const DecodedImage image = counting(8, 8, 3);
  ImageTransformConfig config = plain(8, 3);
  config.pad = 2;
  config.flip = true;
  for (std::int64_t position = 0; position < 20; ++position) {
    const ImageDraws draws{1, position};
    DecodedImage expected = pad_and_cut(image, 2, draws);
    random_flip(expected, draws);
    CHECK(close(trained(config, image, position), planes(expected)));
  }
  config.rand_augment = {.ops = 2, .magnitude = 9};
  config.erase = 1;
  CHECK(close(evaluated(config, image), planes(image)));
}

TEST_CASE("erasing sets a box to the mean, as often as it should") {
  ImageTransformConfig config = plain(10, 1);
  config.mean = {0.5};
  config.erase = 0.25;
  DecodedImage white = counting(10, 10, 1);
  std::ranges::fill(white.pixels, std::uint8_t{255});
  int erased = 0;
  for (std::int64_t position = 0; position < 2000; ++position) {
    const auto out = trained(config, white, position);
    const auto zeros = std::ranges::count(out, 0.0F);
    const ImageBox box = random_erased_box(10, {1, position});
    CHECK((zeros == 0 || zeros == box.height * box.width));
    erased += zeros > 0 ? 1 : 0;
  }
  CHECK(std::abs(erased - 500) < 80);
}

}  // namespace hew
