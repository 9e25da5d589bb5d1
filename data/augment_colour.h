#pragma once

#include "data/image_set.h"

namespace hew {

/// Changes of colour, in place, on images of one or three channels. `factor` 1 leaves an image as
/// it is; every result is rounded and held in [0, 255].

/// Pixels times the factor.
void change_brightness(DecodedImage& image, double factor);
/// Away from, or towards, the pixel's own luma.
void change_saturation(DecodedImage& image, double factor);
/// Away from, or towards, the rounded mean of the image's luma.
void change_contrast(DecodedImage& image, double factor);
/// Away from, or towards, the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13. The outermost pixels
/// stay.
void change_sharpness(DecodedImage& image, double factor);
/// Keeps so many of the upper bits, 1 to 8.
void posterize(DecodedImage& image, int bits);
/// Inverts pixels of at least `threshold`.
void solarize(DecodedImage& image, double threshold);
/// Each channel stretched so that it reaches from 0 to 255.
void stretch_contrast(DecodedImage& image);
/// Each channel through its own cumulative histogram, so that values are spread evenly.
void equalize(DecodedImage& image);

/// Luma of ITU-R BT.601, in steps of 2^-16.
std::uint8_t luma(const std::uint8_t* rgb);

}  // namespace hew
