#include "data/augment_geometry.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace hew {
namespace {

constexpr std::uint64_t kAttempts = 10;

struct BoxRange {
  double area_min;
  double area_max;
  double ratio_min;
  double ratio_max;
};

/// One attempt; draws four numbers from k on. Nothing where it does not fit.
std::optional<ImageBox> try_box(const ImageShape& image, const BoxRange& range, ImageDraw draw,
                                const ImageDraws& draws, std::uint64_t k) {
  const double area = static_cast<double>(image.height * image.width) *
                      draws.uniform(draw, k, range.area_min, range.area_max);
  const double ratio =
      std::exp(draws.uniform(draw, k + 1, std::log(range.ratio_min), std::log(range.ratio_max)));
  const std::int64_t width = std::lround(std::sqrt(area * ratio));
  const std::int64_t height = std::lround(std::sqrt(area / ratio));
  if (width < 1 || height < 1 || width > image.width || height > image.height)
    return std::nullopt;
  return ImageBox{.top = draws.below(draw, k + 2, image.height - height + 1),
                  .left = draws.below(draw, k + 3, image.width - width + 1),
                  .height = height,
                  .width = width};
}

std::optional<ImageBox> random_box(const ImageShape& image, const BoxRange& range, ImageDraw draw,
                                   const ImageDraws& draws, std::uint64_t first) {
  for (std::uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    if (const auto box = try_box(image, range, draw, draws, first + 4 * attempt))
      return box;
  }
  return std::nullopt;
}

/// The pixel's channels, zeros outside.
const std::uint8_t* pixel_at(const DecodedImage& image, std::int64_t y, std::int64_t x) {
  static constexpr std::array<std::uint8_t, 3> kBlack{};
  if (y < 0 || x < 0 || y >= image.height || x >= image.width)
    return kBlack.data();
  return image.pixels.data() + (y * image.width + x) * image.channels;
}

}  // namespace

ImageBox random_resized_box(const ImageShape& image, double area_min, const ImageDraws& draws) {
  constexpr double kRatio = 4.0 / 3.0;
  const BoxRange range{area_min, 1, 1 / kRatio, kRatio};
  if (const auto box = random_box(image, range, ImageDraw::kCrop, draws, 0))
    return *box;
  const auto length = [](double value, std::int64_t most) {
    return std::clamp<std::int64_t>(std::lround(value), 1, most);
  };
  const std::int64_t height = length(static_cast<double>(image.width) * kRatio, image.height);
  const std::int64_t width = length(static_cast<double>(image.height) * kRatio, image.width);
  return {.top = (image.height - height) / 2,
          .left = (image.width - width) / 2,
          .height = height,
          .width = width};
}

DecodedImage pad_and_cut(const DecodedImage& image, std::int64_t pad, const ImageDraws& draws) {
  const std::int64_t down = draws.below(ImageDraw::kPad, 0, 2 * pad + 1) - pad;
  const std::int64_t right = draws.below(ImageDraw::kPad, 1, 2 * pad + 1) - pad;
  DecodedImage out = image;
  std::ranges::fill(out.pixels, std::uint8_t{0});
  const std::int64_t begin = std::max<std::int64_t>(0, right);
  const std::int64_t end = std::min(image.width, image.width + right);
  for (std::int64_t y = 0; y < image.height && begin < end; ++y) {
    if (y - down < 0 || y - down >= image.height)
      continue;
    const std::uint8_t* from = pixel_at(image, y - down, begin - right);
    std::copy_n(from, (end - begin) * image.channels,
                out.pixels.begin() + (y * image.width + begin) * image.channels);
  }
  return out;
}

void random_flip(DecodedImage& image, const ImageDraws& draws) {
  if (draws.uniform(ImageDraw::kFlip, 0) >= 0.5)
    return;
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::uint8_t* row = image.pixels.data() + y * image.width * image.channels;
    for (std::int64_t x = 0; 2 * x + 1 < image.width; ++x) {
      std::swap_ranges(row + x * image.channels, row + (x + 1) * image.channels,
                       row + (image.width - 1 - x) * image.channels);
    }
  }
}

ImageBox random_erased_box(std::int64_t size, const ImageDraws& draws) {
  constexpr BoxRange kRange{0.02, 1.0 / 3.0, 0.3, 3.3};
  constexpr std::uint64_t kFirst = 1;  // number 0 says whether there is one
  return random_box({1, size, size}, kRange, ImageDraw::kErase, draws, kFirst).value_or(ImageBox{});
}

DecodedImage warp(const DecodedImage& image, const AffineMap& map) {
  DecodedImage out = image;
  std::uint8_t* to = out.pixels.data();
  for (std::int64_t row = 0; row < image.height; ++row) {
    for (std::int64_t column = 0; column < image.width; ++column) {
      const double x = static_cast<double>(column) + 0.5;
      const double y = static_cast<double>(row) + 0.5;
      const double from_x = map[0] * x + map[1] * y + map[2] - 0.5;
      const double from_y = map[3] * x + map[4] * y + map[5] - 0.5;
      const auto left = static_cast<std::int64_t>(std::floor(from_x));
      const auto top = static_cast<std::int64_t>(std::floor(from_y));
      const double right_part = from_x - static_cast<double>(left);
      const double lower_part = from_y - static_cast<double>(top);
      const std::uint8_t* corners[] = {pixel_at(image, top, left), pixel_at(image, top, left + 1),
                                       pixel_at(image, top + 1, left),
                                       pixel_at(image, top + 1, left + 1)};
      for (std::int64_t c = 0; c < image.channels; ++c) {
        const double upper = corners[0][c] * (1 - right_part) + corners[1][c] * right_part;
        const double lower = corners[2][c] * (1 - right_part) + corners[3][c] * right_part;
        *to++ = static_cast<std::uint8_t>(
            std::floor(upper * (1 - lower_part) + lower * lower_part + 0.5));
      }
    }
  }
  return out;
}

}  // namespace hew
