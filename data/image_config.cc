#include "data/image_config.h"

#include <string_view>

#include "core/error.h"

namespace hew {
namespace {

void check_channels(std::string_view key, const std::vector<double>& values, std::int64_t channels,
                    bool positive) {
  const auto count = std::ssize(values);
  require<ConfigError>(count == 1 || count == channels,
                       "data.image.{}: {} numbers, expected 1 or one for each of {} channels", key,
                       count, channels);
  for (const double value : values) {
    require<ConfigError>(positive ? value > 0 : value >= 0 && value <= 1,
                         "data.image.{}: {}, expected {}", key, value,
                         positive ? "more than 0" : "0 to 1");
  }
}

void check_range(std::string_view key, double value, double least, double most) {
  require<ConfigError>(value >= least && value <= most, "data.image.{}: {}, expected {} to {}", key,
                       value, least, most);
}

}  // namespace

void check_image_transform(const ImageTransformConfig& config) {
  constexpr double kMostAlpha = 1000;
  require<ConfigError>(config.size > 0, "data.image.size: {}, expected at least 1", config.size);
  require<ConfigError>(config.channels == 1 || config.channels == 3,
                       "data.image.channels: {}, expected 1 or 3", config.channels);
  check_channels("mean", config.mean, config.channels, /*positive=*/false);
  check_channels("std", config.std, config.channels, /*positive=*/true);
  check_range("center_fraction", config.center_fraction, 0.01, 1);
  check_range("area_min", config.area_min, 0.0001, 1);
  check_range("erase", config.erase, 0, 1);
  check_range("mixup", config.mixup, 0, kMostAlpha);
  check_range("cutmix", config.cutmix, 0, kMostAlpha);
  check_range("rand_augment.magnitude", config.rand_augment.magnitude, 0, 30);
  require<ConfigError>(config.rand_augment.ops >= 0 && config.rand_augment.ops <= 8,
                       "data.image.rand_augment.ops: {}, expected 0 to 8", config.rand_augment.ops);
  require<ConfigError>(config.pad >= 0 && config.pad <= config.size,
                       "data.image.pad: {}, expected 0 to the size, {}", config.pad, config.size);
  require<ConfigError>(config.repeats >= 1, "data.image.repeats: {}, expected at least 1",
                       config.repeats);
}

}  // namespace hew
