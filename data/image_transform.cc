#include "data/image_transform.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "data/augment_colour.h"
#include "data/augment_geometry.h"
#include "data/rand_augment.h"

namespace hew {
namespace {

/// Grey as it is in all three channels, or the luma.
DecodedImage with_channels(DecodedImage image, std::int64_t channels) {
  if (image.channels == channels)
    return image;
  DecodedImage out{
      .pixels = {}, .height = image.height, .width = image.width, .channels = channels};
  const auto count = static_cast<std::size_t>(image.height * image.width);
  out.pixels.reserve(count * static_cast<std::size_t>(channels));
  for (std::size_t i = 0; i < count; ++i) {
    if (channels == 3)
      out.pixels.insert(out.pixels.end(), 3, image.pixels[i]);
    else
      out.pixels.push_back(luma(image.pixels.data() + 3 * i));
  }
  return out;
}

void erase_box(const ImageBox& box, std::int64_t size, std::span<float> image) {
  for (std::int64_t plane = 0; plane < std::ssize(image); plane += size * size) {
    for (std::int64_t y = box.top; y < box.top + box.height; ++y) {
      std::fill_n(image.begin() + plane + y * size + box.left, box.width, 0.0F);
    }
  }
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

DecodedImage ImageTransform::middle(const DecodedImage& image) const {
  const double length = std::floor(static_cast<double>(config_.size) / config_.center_fraction);
  return cut_middle(resize_shorter_side(image, static_cast<std::int64_t>(length)), config_.size);
}

void ImageTransform::train(DecodedImage image, const ImageDraws& draws,
                           std::span<float> out) const {
  switch (config_.crop) {
    case ImageCrop::kNone:
      require_size(image.shape());
      break;
    case ImageCrop::kCenter:
      image = middle(image);
      break;
    case ImageCrop::kRandomResized:
      image = resize(image, random_resized_box(image.shape(), config_.area_min, draws),
                     config_.size, config_.size);
      break;
  }
  image = with_channels(std::move(image), config_.channels);
  if (config_.pad > 0)
    image = pad_and_cut(image, config_.pad, draws);
  if (config_.flip)
    random_flip(image, draws);
  rand_augment(config_.rand_augment, draws, image);
  normalise(image, out);
  if (draws.uniform(ImageDraw::kErase, 0) < config_.erase)
    erase_box(random_erased_box(config_.size, draws), config_.size, out);
}

void ImageTransform::evaluate(DecodedImage image, std::span<float> out) const {
  if (config_.crop == ImageCrop::kNone)
    require_size(image.shape());
  else
    image = middle(image);
  normalise(with_channels(std::move(image), config_.channels), out);
}

void ImageTransform::require_size(const ImageShape& shape) const {
  if (config_.crop != ImageCrop::kNone)
    return;
  require<DataError>(shape.height == config_.size && shape.width == config_.size,
                     "{} x {} pixels, expected {} x {} (data.image.crop can cut that out)",
                     shape.height, shape.width, config_.size, config_.size);
}

}  // namespace hew
