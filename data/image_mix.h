#pragma once

#include <cstdint>
#include <span>

#include "data/image_config.h"
#include "data/image_draws.h"
#include "data/image_resize.h"

namespace hew {

/// How every image of one step is mixed with the one in front of it in the global batch, the first
/// with the last.
struct ImageMix {
  double own = 1;     // weight of an image's own target; the rest is its partner's
  ImageBox box = {};  // CutMix: what the partner gives; empty: all pixels are weighted

  bool is_cut() const { return box.height > 0; }
};

/// Draws what the step does to size x size images: mixup (Zhang et al. 2017) or CutMix (Yun et al.
/// 2019), whichever is on, or either with the same chance. CutMix's weight is what its box leaves
/// after being clipped to the image.
ImageMix draw_mix(const ImageTransformConfig& config, const ImageDraws& step);

/// image [channels, size, size] becomes own · image + (1 - own) · partner, or has the partner's
/// box.
void mix_images(const ImageMix& mix, std::span<float> image, std::span<const float> partner,
                std::int64_t size);

/// From Beta(alpha, alpha), by two gamma variables (Marsaglia and Tsang 2000).
double draw_beta(double alpha, const ImageDraws& step);

}  // namespace hew
