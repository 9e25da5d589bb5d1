#include "data/image_transform.h"

#include <cassert>
#include <utility>

#include "core/error.h"

namespace hew {
namespace {

/// Grey as it is in all three channels, or the luma of ITU-R BT.601.
DecodedImage with_channels(DecodedImage image, std::int64_t channels) {
  if (image.channels == channels)
    return image;
  DecodedImage out{
      .pixels = {}, .height = image.height, .width = image.width, .channels = channels};
  const std::size_t count = static_cast<std::size_t>(image.height * image.width);
  out.pixels.resize(count * static_cast<std::size_t>(channels));
  for (std::size_t i = 0; i < count; ++i) {
    if (channels == 3) {
      std::fill_n(out.pixels.begin() + static_cast<std::ptrdiff_t>(3 * i), 3, image.pixels[i]);
    } else {
      const std::uint8_t* rgb = image.pixels.data() + 3 * i;
      constexpr unsigned kRound = 1U << 15U;
      out.pixels[i] = static_cast<std::uint8_t>(
          (19595U * rgb[0] + 38470U * rgb[1] + 7471U * rgb[2] + kRound) >> 16U);
    }
  }
  return out;
}

}  // namespace

ImageTransform::ImageTransform(const ImageTransformConfig& config) : config_(config) {
  check_image_transform(config);
  const auto channel = [](const std::vector<double>& values, std::size_t c) {
    return values.size() == 1 ? values.front() : values[c];
  };
  for (std::size_t c = 0; c < static_cast<std::size_t>(config.channels); ++c) {
    std::array<float, 256>& values = value_of_.emplace_back();
    for (std::size_t byte = 0; byte < values.size(); ++byte) {
      const double pixel = static_cast<double>(byte) / 255.0;
      values[byte] = static_cast<float>((pixel - channel(config.mean, c)) / channel(config.std, c));
    }
  }
}

void ImageTransform::normalise(const DecodedImage& image, std::span<float> out) const {
  assert(image.height == config_.size && image.width == config_.size &&
         image.channels == config_.channels && std::ssize(out) == numel());
  const auto channels = static_cast<std::size_t>(config_.channels);
  const std::size_t plane = out.size() / channels;
  for (std::size_t c = 0; c < channels; ++c) {
    const std::array<float, 256>& value_of = value_of_[c];
    const std::uint8_t* pixels = image.pixels.data() + c;
    float* to = out.data() + c * plane;
    for (std::size_t p = 0; p < plane; ++p) to[p] = value_of[pixels[p * channels]];
  }
}

void ImageTransform::train(DecodedImage image, std::uint64_t /*seed*/, std::int64_t /*position*/,
                           std::span<float> out) const {
  evaluate(std::move(image), out);
}

void ImageTransform::evaluate(DecodedImage image, std::span<float> out) const {
  require<DataError>(image.height == config_.size && image.width == config_.size,
                     "{} x {} pixels, expected {} x {}: data.image.crop says what to cut out",
                     image.height, image.width, config_.size, config_.size);
  normalise(with_channels(std::move(image), config_.channels), out);
}

}  // namespace hew
