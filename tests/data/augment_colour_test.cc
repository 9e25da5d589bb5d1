#include "data/augment_colour.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace hew {
namespace {

using Bytes = std::vector<std::uint8_t>;

DecodedImage grey(Bytes pixels, std::int64_t width = 0) {
  const std::int64_t columns = width > 0 ? width : std::ssize(pixels);
  const std::int64_t rows = std::ssize(pixels) / columns;
  return {.pixels = std::move(pixels), .height = rows, .width = columns, .channels = 1};
}

DecodedImage rgb(Bytes pixels) {
  const std::int64_t columns = std::ssize(pixels) / 3;
  return {.pixels = std::move(pixels), .height = 1, .width = columns, .channels = 3};
}

template <class... Args>
Bytes after(void (*change)(DecodedImage&, Args...), DecodedImage image,
            std::type_identity_t<Args>... args) {
  change(image, args...);
  return image.pixels;
}

}  // namespace

TEST_CASE("luma has the weights of BT.601") {
  const auto of = [](Bytes pixel) { return luma(pixel.data()); };
  CHECK(of({255, 0, 0}) == 76);   // 0.299
  CHECK(of({0, 255, 0}) == 150);  // 0.587
  CHECK(of({0, 0, 255}) == 29);   // 0.114
  for (const int value : {0, 1, 100, 255}) {
    const auto byte = static_cast<std::uint8_t>(value);
    CHECK(of({byte, byte, byte}) == value);
  }
}

TEST_CASE("brightness multiplies and is held in bytes") {
  CHECK(after(change_brightness, grey({0, 10, 100, 200}), 1.5) == Bytes{0, 15, 150, 255});
  CHECK(after(change_brightness, rgb({2, 20, 201}), 0.5) == Bytes{1, 10, 101});
  CHECK(after(change_brightness, grey({7, 255}), 0.0) == Bytes{0, 0});
}

TEST_CASE("saturation moves between grey and more of the colour") {
  const DecodedImage image = rgb({255, 0, 0, 90, 90, 90});
  CHECK(after(change_saturation, image, 0.0) == Bytes{76, 76, 76, 90, 90, 90});
  CHECK(after(change_saturation, image, 0.5) == Bytes{166, 38, 38, 90, 90, 90});
  CHECK(after(change_saturation, image, 1.0) == image.pixels);
  CHECK(after(change_saturation, rgb({100, 110, 105}), 2.0) == Bytes{94, 114, 104});  // luma 106
  CHECK(after(change_saturation, grey({1, 2}), 0.0) == Bytes{1, 2});
}

TEST_CASE("contrast moves between the mean and more of the difference") {
  CHECK(after(change_contrast, grey({0, 50, 100}), 0.0) == Bytes{50, 50, 50});
  CHECK(after(change_contrast, grey({0, 50, 100}), 1.5) == Bytes{0, 50, 125});
  CHECK(after(change_contrast, rgb({255, 0, 0, 255, 0, 0}), 0.0) == Bytes(6, 76));
  CHECK(after(change_contrast, grey({3, 4}), 1.0) == Bytes{3, 4});
}

TEST_CASE("sharpness moves between smoothed and more of the detail; edges stay") {
  Bytes pixels(9, 0);
  pixels[4] = 130;
  Bytes smooth = pixels;
  smooth[4] = 50;  // 5 / 13
  CHECK(after(change_sharpness, grey(pixels, 3), 0.0) == smooth);
  CHECK(after(change_sharpness, grey(pixels, 3), 1.0) == pixels);
  smooth[4] = 170;
  CHECK(after(change_sharpness, grey(pixels, 3), 1.5) == smooth);
  CHECK(after(change_sharpness, grey({9, 1, 9, 1}, 2), 0.0) == Bytes{9, 1, 9, 1});
  // A corner of the window counts 1 / 13; channels do not touch each other.
  DecodedImage colour{.pixels = Bytes(4 * 3 * 3, 0), .height = 3, .width = 4, .channels = 3};
  colour.pixels[1] = 130;  // green of the first pixel
  change_sharpness(colour, 0.0);
  Bytes expected(36, 0);
  expected[1] = 130;
  expected[(4 + 1) * 3 + 1] = 10;
  CHECK(colour.pixels == expected);
}

TEST_CASE("posterize keeps upper bits, solarize inverts bright pixels") {
  CHECK(after(posterize, grey({0, 15, 16, 255}), 4) == Bytes{0, 0, 16, 240});
  CHECK(after(posterize, grey({0, 15, 16, 255}), 8) == Bytes{0, 15, 16, 255});
  CHECK(after(posterize, grey({127, 128}), 1) == Bytes{0, 128});
  CHECK(after(solarize, grey({0, 99, 100, 255}), 100.0) == Bytes{0, 99, 155, 0});
  CHECK(after(solarize, grey({0, 255}), 256.0) == Bytes{0, 255});
  CHECK(after(solarize, grey({0, 255}), 0.0) == Bytes{255, 0});
}

TEST_CASE("stretching reaches from 0 to 255 in each channel") {
  CHECK(after(stretch_contrast, grey({10, 60, 110})) == Bytes{0, 128, 255});
  CHECK(after(stretch_contrast, grey({7, 7})) == Bytes{7, 7});
  CHECK(after(stretch_contrast, rgb({0, 5, 9, 255, 5, 10})) == Bytes{0, 5, 0, 255, 5, 255});
}

TEST_CASE("equalizing spreads values evenly") {
  // 256 values once each: a step is one pixel, so that every value stays.
  Bytes all(256);
  std::iota(all.begin(), all.end(), std::uint8_t{0});
  CHECK(after(equalize, grey(all)) == all);
  // 510 pixels below the largest, two a step: 255 of 3 come after step / 2 = 1.
  Bytes two(255, 3);
  two.insert(two.end(), 255, 4);
  two.insert(two.end(), 1, 200);
  const Bytes out = after(equalize, grey(two));
  CHECK(out[0] == 0);                                         // 1 / 2
  CHECK(out[255] == (1 + 255) / 2);                           // what lies below
  CHECK(out[510] == 255);                                     // (1 + 510) / 2
  CHECK(after(equalize, grey({1, 2, 3})) == Bytes{1, 2, 3});  // too few for a step
  CHECK(after(equalize, grey(Bytes(600, 9))) == Bytes(600, 9));
  // Dark pixels get all of the range.
  Bytes dark;
  for (int i = 0; i < 5440; ++i) dark.push_back(static_cast<std::uint8_t>(i % 64));
  const Bytes spread = after(equalize, grey(dark));
  CHECK(std::set<int>(spread.begin(), spread.end()).size() == 64);
  CHECK(*std::ranges::max_element(spread) == 255);
}

}  // namespace hew
