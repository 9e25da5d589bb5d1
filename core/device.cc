#include "core/device.h"

#include <charconv>

#include "core/error.h"

namespace hew {

Device parse_device(std::string_view text) {
  if (text == "cpu")
    return {};
  if (text == "cuda")
    return {DeviceType::kCuda, 0};
  constexpr std::string_view kPrefix = "cuda:";
  if (text.starts_with(kPrefix)) {
    const std::string_view digits = text.substr(kPrefix.size());
    int index = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (status == std::errc{} && end == digits.data() + digits.size() && index >= 0) {
      return {DeviceType::kCuda, index};
    }
  }
  throw ConfigError(fmt::format("[device] '{}' is not a device (cpu, cuda, cuda:N)", text));
}

std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index);
}

}  // namespace hew
