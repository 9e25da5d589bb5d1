#include "data/image_resize.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <vector>

namespace hew {
namespace {

constexpr unsigned kWeightBits = 22;  // 8 more for a byte, and sums of weights that are 1, fit 32
constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

/// Which inputs an output is the sum of, and by how much.
struct Taps {
  std::int64_t first = 0;
  std::vector<std::int32_t> weights;  // add up to 2^22, but for rounding
};

std::vector<Taps> make_taps(std::int64_t inputs, std::int64_t outputs) {
  const double scale = static_cast<double>(inputs) / static_cast<double>(outputs);
  const double reach = std::max(1.0, scale);
  std::vector<Taps> all(static_cast<std::size_t>(outputs));
  std::vector<double> weights;
  for (std::int64_t out = 0; out < outputs; ++out) {
    const double center = (static_cast<double>(out) + 0.5) * scale;
    const auto begin =
        std::max<std::int64_t>(0, static_cast<std::int64_t>(std::floor(center - reach + 0.5)));
    const auto end = std::min(inputs, static_cast<std::int64_t>(std::floor(center + reach + 0.5)));
    weights.clear();
    double sum = 0;
    for (std::int64_t in = begin; in < end; ++in) {
      const double distance = std::abs(static_cast<double>(in) + 0.5 - center) / reach;
      weights.push_back(std::max(0.0, 1.0 - distance));
      sum += weights.back();
    }
    Taps& taps = all[static_cast<std::size_t>(out)];
    taps.first = begin;
    for (const double weight : weights) {
      taps.weights.push_back(
          static_cast<std::int32_t>(std::lround(weight / sum * (1U << kWeightBits))));
    }
  }
  return all;
}

std::uint8_t to_byte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

template <int kChannels>
void resize_row(const std::uint8_t* in, const std::vector<Taps>& columns, std::uint8_t* out) {
  for (const Taps& taps : columns) {
    std::int32_t sums[kChannels];
    std::fill_n(sums, kChannels, kHalf);
    const std::uint8_t* pixel = in + taps.first * kChannels;
    for (const std::int32_t weight : taps.weights) {
      for (int c = 0; c < kChannels; ++c) sums[c] += weight * *pixel++;
    }
    for (const std::int32_t sum : sums) *out++ = to_byte(sum);
  }
}

DecodedImage resize_columns(const DecodedImage& image, const ImageBox& box, std::int64_t width) {
  const std::vector<Taps> columns = make_taps(box.width, width);
  DecodedImage out{.pixels = {}, .height = box.height, .width = width, .channels = image.channels};
  out.pixels.resize(static_cast<std::size_t>(box.height * width * image.channels));
  for (std::int64_t y = 0; y < box.height; ++y) {
    const std::uint8_t* from =
        image.pixels.data() + ((box.top + y) * image.width + box.left) * image.channels;
    std::uint8_t* to = out.pixels.data() + y * width * image.channels;
    image.channels == 1 ? resize_row<1>(from, columns, to) : resize_row<3>(from, columns, to);
  }
  return out;
}

DecodedImage resize_rows(const DecodedImage& image, std::int64_t height) {
  const std::vector<Taps> rows = make_taps(image.height, height);
  const auto row_bytes = static_cast<std::size_t>(image.width * image.channels);
  DecodedImage out{
      .pixels = {}, .height = height, .width = image.width, .channels = image.channels};
  out.pixels.resize(static_cast<std::size_t>(height) * row_bytes);
  std::vector<std::int32_t> sums(row_bytes);
  std::uint8_t* to = out.pixels.data();
  for (const Taps& taps : rows) {
    std::ranges::fill(sums, kHalf);
    const std::uint8_t* from =
        image.pixels.data() + static_cast<std::size_t>(taps.first) * row_bytes;
    for (const std::int32_t weight : taps.weights) {
      for (std::size_t x = 0; x < row_bytes; ++x) sums[x] += weight * from[x];
      from += row_bytes;
    }
    to = std::ranges::transform(sums, to, to_byte).out;
  }
  return out;
}

[[maybe_unused]] bool is_inside(const ImageBox& box, const DecodedImage& image) {
  return box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 &&
         box.top + box.height <= image.height && box.left + box.width <= image.width;
}

}  // namespace

DecodedImage cut(const DecodedImage& image, const ImageBox& box) {
  assert(is_inside(box, image));
  DecodedImage out{
      .pixels = {}, .height = box.height, .width = box.width, .channels = image.channels};
  out.pixels.reserve(static_cast<std::size_t>(box.height * box.width * image.channels));
  for (std::int64_t y = box.top; y < box.top + box.height; ++y) {
    const auto row = image.pixels.begin() + (y * image.width + box.left) * image.channels;
    out.pixels.insert(out.pixels.end(), row, row + box.width * image.channels);
  }
  return out;
}

DecodedImage resize(const DecodedImage& image, const ImageBox& box, std::int64_t height,
                    std::int64_t width) {
  assert(is_inside(box, image) && height > 0 && width > 0);
  DecodedImage out = box.width == width ? cut(image, box) : resize_columns(image, box, width);
  return box.height == height ? out : resize_rows(out, height);
}

DecodedImage resize_shorter_side(const DecodedImage& image, std::int64_t length) {
  const std::int64_t shorter = std::min(image.height, image.width);
  return resize(image, {0, 0, image.height, image.width}, length * image.height / shorter,
                length * image.width / shorter);
}

DecodedImage cut_middle(const DecodedImage& image, std::int64_t size) {
  // Halves to even, as torchvision does.
  const auto before = [size](std::int64_t side) {
    return static_cast<std::int64_t>(std::lrint(static_cast<double>(side - size) / 2));
  };
  return cut(
      image,
      {.top = before(image.height), .left = before(image.width), .height = size, .width = size});
}

}  // namespace hew
