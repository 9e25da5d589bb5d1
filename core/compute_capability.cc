#include "core/compute_capability.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/error.h"

namespace hew::cuda {

int capped_capability(int own, const char* cap) {
  constexpr int kLeast = 80;
  constexpr int kMost = 999;
  if (cap == nullptr)
    return own;
  const std::string_view text(cap);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require<ConfigError>(
      error == std::errc() && end == text.data() + text.size() && value >= kLeast && value <= kMost,
      "{}: got \"{}\", expected a compute capability from {} on, as 80 or 90", kCapabilityCap, text,
      kLeast);
  return std::min(own, value);
}

}  // namespace hew::cuda
