#include "data/augment_colour.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace hew {
namespace {

using Table = std::array<std::uint8_t, 256>;

std::uint8_t to_byte(double value) {
  return static_cast<std::uint8_t>(std::floor(std::clamp(value, 0.0, 255.0) + 0.5));
}

std::uint8_t blend(std::uint8_t other, std::uint8_t pixel, double factor) {
  return to_byte(other + factor * (pixel - other));
}

template <class Function>
Table make_table(const Function& function) {
  Table table{};
  for (std::size_t byte = 0; byte < table.size(); ++byte) {
    table[byte] = function(static_cast<int>(byte));
  }
  return table;
}

void map_pixels(DecodedImage& image, const Table& table) {
  for (std::uint8_t& pixel : image.pixels) pixel = table[pixel];
}

std::uint8_t luma_of(const DecodedImage& image, std::size_t pixel) {
  return image.channels == 1 ? image.pixels[pixel] : luma(image.pixels.data() + 3 * pixel);
}

/// A table for each channel, made from how often each value occurs in it.
template <class Function>
void apply_by_channel(DecodedImage& image, const Function& table_of) {
  const auto channels = static_cast<std::size_t>(image.channels);
  for (std::size_t c = 0; c < channels; ++c) {
    std::array<std::int64_t, 256> counts{};
    for (std::size_t i = c; i < image.pixels.size(); i += channels) ++counts[image.pixels[i]];
    const Table table = table_of(counts);
    for (std::size_t i = c; i < image.pixels.size(); i += channels) {
      image.pixels[i] = table[image.pixels[i]];
    }
  }
}

int first_used(const std::array<std::int64_t, 256>& counts) {
  return static_cast<int>(std::ranges::find_if(counts, [](auto n) { return n > 0; }) -
                          counts.begin());
}

int last_used(const std::array<std::int64_t, 256>& counts) {
  const auto last = std::find_if(counts.rbegin(), counts.rend(), [](auto n) { return n > 0; });
  return static_cast<int>(counts.rend() - last) - 1;
}

}  // namespace

std::uint8_t luma(const std::uint8_t* rgb) {
  constexpr unsigned kRound = 1U << 15U;
  return static_cast<std::uint8_t>((19595U * rgb[0] + 38470U * rgb[1] + 7471U * rgb[2] + kRound) >>
                                   16U);
}

void change_brightness(DecodedImage& image, double factor) {
  map_pixels(image, make_table([&](int value) { return to_byte(factor * value); }));
}

void change_saturation(DecodedImage& image, double factor) {
  if (image.channels == 1)
    return;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    const std::uint8_t grey = luma(image.pixels.data() + i);
    for (std::size_t c = i; c < i + 3; ++c) image.pixels[c] = blend(grey, image.pixels[c], factor);
  }
}

void change_contrast(DecodedImage& image, double factor) {
  const std::size_t count = image.pixels.size() / static_cast<std::size_t>(image.channels);
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += luma_of(image, i);
  const std::uint8_t mean =
      to_byte(std::round(static_cast<double>(sum) / static_cast<double>(count)));
  map_pixels(image, make_table([&](int value) {
               return blend(mean, static_cast<std::uint8_t>(value), factor);
             }));
}

void change_sharpness(DecodedImage& image, double factor) {
  const DecodedImage before = image;
  const std::int64_t row = image.width * image.channels;
  for (std::int64_t y = 1; y + 1 < image.height; ++y) {
    for (std::int64_t x = image.channels; x < row - image.channels; ++x) {
      const std::uint8_t* pixel = before.pixels.data() + y * row + x;
      int sum = 4 * *pixel;
      for (const std::int64_t down : {-row, std::int64_t{0}, row}) {
        for (const std::int64_t right : {-image.channels, std::int64_t{0}, image.channels}) {
          sum += pixel[down + right];
        }
      }
      constexpr int kWeights = 13;
      const double smooth = static_cast<double>(sum) / kWeights;
      image.pixels[static_cast<std::size_t>(y * row + x)] =
          to_byte(smooth + factor * (*pixel - smooth));
    }
  }
}

void posterize(DecodedImage& image, int bits) {
  const int mask = 0xff << (8 - bits);
  map_pixels(image, make_table([&](int value) { return static_cast<std::uint8_t>(value & mask); }));
}

void solarize(DecodedImage& image, double threshold) {
  map_pixels(image, make_table([&](int value) {
               return static_cast<std::uint8_t>(value < threshold ? value : 255 - value);
             }));
}

void stretch_contrast(DecodedImage& image) {
  apply_by_channel(image, [](const auto& counts) {
    const int low = first_used(counts);
    const int high = last_used(counts);
    return make_table([&](int value) {
      return high > low ? to_byte((value - low) * 255.0 / (high - low))
                        : static_cast<std::uint8_t>(value);
    });
  });
}

void equalize(DecodedImage& image) {
  apply_by_channel(image, [](const auto& counts) {
    std::int64_t total = 0;
    for (const std::int64_t count : counts) total += count;
    // Of what lies below the largest value, 1/255 is a step of the result.
    const std::int64_t step = (total - counts[static_cast<std::size_t>(last_used(counts))]) / 255;
    std::int64_t below = step / 2;
    return make_table([&](int value) {
      if (step == 0)
        return static_cast<std::uint8_t>(value);
      const std::int64_t result = std::min<std::int64_t>(255, below / step);
      below += counts[static_cast<std::size_t>(value)];
      return static_cast<std::uint8_t>(result);
    });
  });
}

}  // namespace hew
