#include "data/image_resize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/rng.h"

namespace hew {
namespace {

DecodedImage random_image(std::int64_t height, std::int64_t width, std::int64_t channels) {
  DecodedImage image{.pixels = {}, .height = height, .width = width, .channels = channels};
  for (std::int64_t i = 0; i < height * width * channels; ++i) {
    image.pixels.push_back(
        static_cast<std::uint8_t>(uniform_below(5, 0, static_cast<std::uint64_t>(i), 256)));
  }
  return image;
}

ImageBox whole(const DecodedImage& image) {
  return {0, 0, image.height, image.width};
}

/// The weight of input `in` in output `out`, straight from the definition.
double weight(std::int64_t in, std::int64_t out, std::int64_t inputs, std::int64_t outputs) {
  const double scale = static_cast<double>(inputs) / static_cast<double>(outputs);
  const auto triangle = [&](std::int64_t i) {
    const double center = (static_cast<double>(out) + 0.5) * scale;
    return std::max(0.0,
                    1 - std::abs(static_cast<double>(i) + 0.5 - center) / std::max(1.0, scale));
  };
  double sum = 0;
  for (std::int64_t i = 0; i < inputs; ++i) sum += triangle(i);
  return triangle(in) / sum;
}

double exact(const DecodedImage& image, std::int64_t height, std::int64_t width, std::int64_t y,
             std::int64_t x, std::int64_t c) {
  double sum = 0;
  for (std::int64_t v = 0; v < image.height; ++v) {
    for (std::int64_t u = 0; u < image.width; ++u) {
      sum += weight(v, y, image.height, height) * weight(u, x, image.width, width) *
             image.pixels[static_cast<std::size_t>((v * image.width + u) * image.channels + c)];
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("small cases by hand") {
  const DecodedImage row{
      .pixels = {8, 0, 0, 80, 0, 0, 0, 240}, .height = 1, .width = 8, .channels = 1};
  // Half the size: weights 1 3 3 1 over 8, at the edges 3 3 1 over 7.
  CHECK(resize(row, whole(row), 1, 4).pixels == std::vector<std::uint8_t>{3, 30, 10, 103});
  const DecodedImage pair{.pixels = {0, 100}, .height = 1, .width = 2, .channels = 1};
  CHECK(resize(pair, whole(pair), 1, 4).pixels == std::vector<std::uint8_t>{0, 25, 75, 100});
  const DecodedImage column{.pixels = {0, 100}, .height = 2, .width = 1, .channels = 1};
  CHECK(resize(column, whole(column), 4, 1).pixels == std::vector<std::uint8_t>{0, 25, 75, 100});
  CHECK(resize(row, whole(row), 1, 8).pixels == row.pixels);
}

TEST_CASE("every pixel is the weighted sum that the definition says") {
  for (const std::int64_t channels : {1, 3}) {
    for (const auto& [h, w, to_h, to_w] :
         {std::array{1, 1, 3, 5}, {7, 5, 3, 2}, {13, 11, 7, 17}, {4, 9, 4, 3}, {31, 2, 1, 1}}) {
      const DecodedImage image = random_image(h, w, channels);
      const DecodedImage out = resize(image, whole(image), to_h, to_w);
      REQUIRE(out.shape() == ImageShape{channels, to_h, to_w});
      REQUIRE(std::ssize(out.pixels) == to_h * to_w * channels);
      std::size_t at = 0;
      for (std::int64_t y = 0; y < to_h; ++y) {
        for (std::int64_t x = 0; x < to_w; ++x) {
          for (std::int64_t c = 0; c < channels; ++c) {
            // Two roundings to bytes, of which the first is weighted again.
            CHECK(std::abs(out.pixels[at++] - exact(image, to_h, to_w, y, x, c)) <= 1.0 + 1e-3);
          }
        }
      }
    }
  }
}

TEST_CASE("an even image stays so at any size") {
  for (const int value : {0, 1, 127, 255}) {
    DecodedImage image = random_image(29, 23, 3);
    std::ranges::fill(image.pixels, static_cast<std::uint8_t>(value));
    for (const std::int64_t size : {1, 7, 29, 64}) {
      const DecodedImage out = resize(image, whole(image), size, size + 2);
      CHECK(std::ranges::all_of(out.pixels, [&](int pixel) { return pixel == value; }));
    }
  }
}

TEST_CASE("a box is what it cuts out") {
  const DecodedImage image = random_image(13, 17, 3);
  for (const ImageBox& box :
       {ImageBox{0, 0, 13, 17}, {2, 3, 5, 7}, {12, 16, 1, 1}, {0, 5, 13, 1}}) {
    const DecodedImage part = cut(image, box);
    CHECK(part.shape() == ImageShape{3, box.height, box.width});
    CHECK(part.pixels.front() ==
          image.pixels[static_cast<std::size_t>((box.top * 17 + box.left) * 3)]);
    CHECK(part.pixels.back() ==
          image.pixels[static_cast<std::size_t>(
              ((box.top + box.height - 1) * 17 + box.left + box.width - 1) * 3 + 2)]);
    for (const std::int64_t size : {1, 5, 11}) {
      CHECK(resize(image, box, size, 7).pixels == resize(part, whole(part), size, 7).pixels);
    }
  }
}

TEST_CASE("the middle of a resized image") {
  CHECK(resize_shorter_side(random_image(30, 20, 1), 10).shape() == ImageShape{1, 15, 10});
  CHECK(resize_shorter_side(random_image(20, 33, 1), 10).shape() == ImageShape{1, 10, 16});
  CHECK(resize_shorter_side(random_image(7, 7, 3), 14).shape() == ImageShape{3, 14, 14});
  const DecodedImage image = random_image(9, 6, 1);
  CHECK(cut_middle(image, 5).pixels == cut(image, {2, 0, 5, 5}).pixels);  // 0.5 rounds to even
  CHECK(cut_middle(image, 6).pixels == cut(image, {2, 0, 6, 6}).pixels);  // so does 1.5
}

}  // namespace hew
