#include "data/raw_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

namespace hew {
namespace {

ImageSet::Info with_shape(ImageSet::Info info, const ImageShape& shape) {
  info.shape = shape;
  return info;
}

}  // namespace

RawImages::RawImages(Info info, const ImageShape& shape, std::vector<std::uint8_t> pixels,
                     std::vector<std::int32_t> labels)
    : ImageSet(with_shape(std::move(info), shape)),
      image_(shape),
      pixels_(std::move(pixels)),
      labels_(std::move(labels)) {
  assert(std::ssize(pixels_) == size() * shape.channels * shape.height * shape.width);
}

DecodedImage RawImages::read(std::int64_t i) const {
  assert(i >= 0 && i < size());
  const std::int64_t bytes = image_.channels * image_.height * image_.width;
  const auto begin = pixels_.begin() + i * bytes;
  return {.pixels = {begin, begin + bytes},
          .height = image_.height,
          .width = image_.width,
          .channels = image_.channels};
}

std::string RawImages::name(std::int64_t i) const {
  return fmt::format("{}: image {}", path(), i);
}

std::vector<std::string> numbered_classes(const std::vector<std::int32_t>& labels,
                                          std::int64_t least) {
  std::int64_t count = least;
  for (const std::int32_t label : labels) count = std::max<std::int64_t>(count, label + 1);
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

}  // namespace hew
