#pragma once

#include <cstdint>

#include "data/image_set.h"

namespace hew {

/// A rectangle of pixels.
struct ImageBox {
  std::int64_t top = 0;
  std::int64_t left = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;

  friend bool operator==(const ImageBox&, const ImageBox&) = default;
};

/// The part of the image in the box, which must lie inside of it.
DecodedImage cut(const DecodedImage& image, const ImageBox& box);

/// That part at another size: bilinear interpolation whose triangle is as wide as an output pixel
/// where the image shrinks, so that nothing aliases. Columns first, then rows, each rounded to
/// bytes from weights of 22 bits: the pixels do not depend on the machine.
DecodedImage resize(const DecodedImage& image, const ImageBox& box, std::int64_t height,
                    std::int64_t width);
/// The whole image with its shorter side at this length, the longer one rounded down.
DecodedImage resize_shorter_side(const DecodedImage& image, std::int64_t length);
/// The size x size in the middle of an image whose sides are no shorter.
DecodedImage cut_middle(const DecodedImage& image, std::int64_t size);

}  // namespace hew
