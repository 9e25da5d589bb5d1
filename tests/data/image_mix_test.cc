#include "data/image_mix.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hew {
namespace {

constexpr int kSamples = 5000;

std::vector<double> betas(double alpha) {
  std::vector<double> values;
  for (std::int64_t step = 0; step < kSamples; ++step)
    values.push_back(draw_beta(alpha, {3, step}));
  std::ranges::sort(values);
  return values;
}

ImageTransformConfig config(double mixup, double cutmix, std::int64_t size = 16) {
  ImageTransformConfig config;
  config.size = size;
  config.mixup = mixup;
  config.cutmix = cutmix;
  return config;
}

}  // namespace

TEST_CASE("Beta(alpha, alpha) has its distribution") {
  // Kolmogorov and Smirnov: the largest distance is below 1.63 / sqrt(n) in 99 of 100 samples.
  const auto distance = [](double alpha, auto cumulative) {
    const auto values = betas(alpha);
    double largest = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double below = static_cast<double>(i) / kSamples;
      largest = std::max(largest, std::abs(cumulative(values[i]) - below));
    }
    return largest;
  };
  const double limit = 1.63 / std::sqrt(kSamples);
  const auto even = [](double x) { return x; };
  CHECK(distance(1, even) < limit);
  CHECK(distance(2, [](double x) { return x * x * (3 - 2 * x); }) < limit);
  CHECK(distance(0.5, [](double x) { return 2 / std::numbers::pi * std::asin(std::sqrt(x)); }) <
        limit);
  CHECK(distance(2, even) > 3 * limit);  // the test can tell them apart
  for (const double alpha : {0.1, 0.2, 0.8, 8.0}) {
    const auto values = betas(alpha);
    double mean = 0;
    double square = 0;
    for (const double value : values) {
      REQUIRE((value >= 0 && value <= 1));
      mean += value / kSamples;
      square += (value - 0.5) * (value - 0.5) / kSamples;
    }
    CHECK(std::abs(mean - 0.5) < 0.03);
    CHECK(std::abs(square * 4 * (2 * alpha + 1) - 1) < 0.1);
  }
  for (const double value : betas(1e-9)) REQUIRE((value >= 0 && value <= 1));
}

TEST_CASE("mixup weights pixels, CutMix gives a box of the partner's share") {
  const std::int64_t size = 5;
  std::vector<float> image(3 * 25, 1.0F);
  const std::vector<float> partner(3 * 25, 3.0F);
  mix_images({.own = 0.25}, image, partner, size);
  for (const float value : image) CHECK(value == 0.25F * 1 + 0.75F * 3);
  std::ranges::fill(image, 1.0F);
  const ImageBox box{.top = 1, .left = 2, .height = 3, .width = 2};
  mix_images({.own = 1 - 6.0 / 25, .box = box}, image, partner, size);
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < 5; ++y) {
      for (int x = 0; x < 5; ++x) {
        const bool inside = y >= 1 && y < 4 && x >= 2 && x < 4;
        CHECK(image[static_cast<std::size_t>(c * 25 + y * 5 + x)] == (inside ? 3.0F : 1.0F));
      }
    }
  }
}

TEST_CASE("what a step draws") {
  int cuts = 0;
  int boxes = 0;
  for (std::int64_t step = 0; step < 1000; ++step) {
    const ImageMix both = draw_mix(config(0.8, 1), {5, step});
    cuts += both.is_cut() || both.own == 1 ? 1 : 0;
    const ImageMix mixup = draw_mix(config(0.8, 0), {5, step});
    CHECK_FALSE(mixup.is_cut());
    CHECK(mixup.own == draw_beta(0.8, {5, step}));
    for (const std::int64_t size : {1, 7, 16}) {
      const ImageMix mix = draw_mix(config(0, 1, size), {5, step});
      const ImageBox& box = mix.box;
      CHECK((box.top >= 0 && box.left >= 0));
      CHECK((box.top + box.height <= size && box.left + box.width <= size));
      const double share =
          static_cast<double>(box.height * box.width) / static_cast<double>(size * size);
      CHECK(std::abs(1 - mix.own - share) < 1e-12);
      boxes += mix.is_cut() ? 1 : 0;
    }
    CHECK(draw_mix(config(0, 0), {5, step}).own == 1);
  }
  CHECK(std::abs(cuts - 500) < 80);
  CHECK(boxes > 1500);
}

}  // namespace hew
