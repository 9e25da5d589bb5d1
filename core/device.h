#pragma once

#include <string>
#include <string_view>

namespace hew {

enum class DeviceType { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;

  bool is_cpu() const { return type == DeviceType::kCpu; }
  bool is_cuda() const { return type == DeviceType::kCuda; }
  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu", "cuda" or "cuda:3". Throws ConfigError on anything else.
Device parse_device(std::string_view text);
std::string to_string(Device device);

}  // namespace hew
