#include "data/image_mix.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

namespace hew {
namespace {

// Numbers of a step: 0 chooses, 1 and 2 place the box, from 3 on gamma variables are made.
constexpr std::uint64_t kChoice = 0;
constexpr std::uint64_t kPlace = 1;
constexpr std::uint64_t kGamma = 3;

/// From Gamma(alpha, 1), with numbers k, k + 1, … In ten attempts it is almost surely there: each
/// fails with a probability below 0.05.
double draw_gamma(double alpha, const ImageDraws& step, std::uint64_t k) {
  const auto positive = [&](std::uint64_t i) { return 1 - step.uniform(ImageDraw::kMix, i); };
  const double boost = alpha < 1 ? std::pow(positive(k), 1 / alpha) : 1;
  const double d = (alpha < 1 ? alpha + 1 : alpha) - 1.0 / 3.0;
  const double c = 1 / std::sqrt(9 * d);
  constexpr std::uint64_t kAttempts = 9;
  for (std::uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    const std::uint64_t i = k + 1 + 3 * attempt;
    const double normal =
        std::sqrt(-2 * std::log(positive(i))) * std::cos(2 * std::numbers::pi * positive(i + 1));
    const double v = std::pow(1 + c * normal, 3);
    if (v > 0 && std::log(positive(i + 2)) < normal * normal / 2 + d - d * v + d * std::log(v))
      return boost * d * v;
  }
  return boost * d;
}

}  // namespace

double draw_beta(double alpha, const ImageDraws& step) {
  constexpr std::uint64_t kNumbers = 28;  // of one gamma variable
  const double first = draw_gamma(alpha, step, kGamma);
  const double second = draw_gamma(alpha, step, kGamma + kNumbers);
  // Both are too small for a double where alpha is: then the mix is all of one.
  if (!(first + second > 0))
    return step.uniform(ImageDraw::kMix, kGamma) < 0.5 ? 0 : 1;
  return first / (first + second);
}

ImageMix draw_mix(const ImageTransformConfig& config, const ImageDraws& step) {
  if (config.mixup <= 0 && config.cutmix <= 0)
    return {};
  const bool cut =
      config.cutmix > 0 && (config.mixup <= 0 || step.uniform(ImageDraw::kMix, kChoice) < 0.5);
  const double own = draw_beta(cut ? config.cutmix : config.mixup, step);
  if (!cut)
    return {.own = own};
  const std::int64_t size = config.size;
  const auto side = static_cast<std::int64_t>(static_cast<double>(size) * std::sqrt(1 - own));
  const std::int64_t top = step.below(ImageDraw::kMix, kPlace, size) - side / 2;
  const std::int64_t left = step.below(ImageDraw::kMix, kPlace + 1, size) - side / 2;
  ImageBox box{.top = std::max<std::int64_t>(0, top), .left = std::max<std::int64_t>(0, left)};
  box.height = std::min(size, top + side) - box.top;
  box.width = std::min(size, left + side) - box.left;
  if (box.height <= 0 || box.width <= 0)
    return {};
  const double area = static_cast<double>(box.height * box.width);
  return {.own = 1 - area / static_cast<double>(size * size), .box = box};
}

void mix_images(const ImageMix& mix, std::span<float> image, std::span<const float> partner,
                std::int64_t size) {
  assert(image.size() == partner.size());
  if (!mix.is_cut()) {
    const auto own = static_cast<float>(mix.own);
    std::ranges::transform(image, partner, image.begin(), [own](float mine, float other) {
      return own * mine + (1 - own) * other;
    });
    return;
  }
  for (std::int64_t plane = 0; plane < std::ssize(image); plane += size * size) {
    for (std::int64_t y = mix.box.top; y < mix.box.top + mix.box.height; ++y) {
      const std::int64_t at = plane + y * size + mix.box.left;
      std::copy_n(partner.begin() + at, mix.box.width, image.begin() + at);
    }
  }
}

}  // namespace hew
