#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "data/image_draws.h"
#include "data/image_resize.h"
#include "data/image_set.h"

namespace hew {

/// A part of the image: area uniform in [area_min, 1] of it and aspect ratio log-uniform in [3/4,
/// 4/3], anywhere; where ten attempts do not fit, the middle at the nearest ratio (Szegedy et al.
/// 2015).
ImageBox random_resized_box(const ImageShape& image, double area_min, const ImageDraws& draws);

/// A part of the image's own size of the image with `pad` black pixels on all sides.
DecodedImage pad_and_cut(const DecodedImage& image, std::int64_t pad, const ImageDraws& draws);

/// Left to right, for half of the samples.
void random_flip(DecodedImage& image, const ImageDraws& draws);

/// Where random erasing takes a rectangle out of size x size: area uniform in [0.02, 1/3], aspect
/// ratio log-uniform in [0.3, 3.3]; an empty one where ten attempts do not fit (Zhong et al. 2017).
ImageBox random_erased_box(std::int64_t size, const ImageDraws& draws);

/// An output pixel's centre (x, y, 1) goes to (m0 x + m1 y + m2, m3 x + m4 y + m5) of the image.
using AffineMap = std::array<double, 6>;
/// Bilinear interpolation; black outside.
DecodedImage warp(const DecodedImage& image, const AffineMap& map);

}  // namespace hew
