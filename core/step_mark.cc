#include "core/step_mark.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace hew {
namespace {

template <class T>
std::optional<T> parse_whole(std::string_view text) {
  T value{};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

}  // namespace

void StepMark::resolve(std::int64_t total) {
  const auto whole = static_cast<double>(total);
  // 29 % of 100 must be 29 although 0.29·100 is a shade less.
  constexpr double kRounding = 1e-9;
  if (unit == Unit::kPercent) {
    step = static_cast<std::int64_t>(std::floor(amount * whole / 100 + kRounding));
  } else {
    step = static_cast<std::int64_t>(amount) + (amount < 0 ? total : 0);
  }
}

std::optional<StepMark> parse_step_mark(std::string_view text) {
  if (text.ends_with('%')) {
    const auto amount = parse_whole<double>(text.substr(0, text.size() - 1));
    if (!amount || !(*amount >= 0 && *amount <= 100))
      return std::nullopt;
    return StepMark::percent(*amount);
  }
  constexpr std::int64_t kLargest = std::int64_t{1} << 53;  // exact in a double
  const auto step = parse_whole<std::int64_t>(text);
  if (!step || *step > kLargest || *step < -kLargest)
    return std::nullopt;
  return StepMark::at(*step);
}

std::string to_string(const StepMark& mark) {
  if (mark.unit == StepMark::Unit::kPercent)
    return fmt::format("{}%", mark.amount);
  return fmt::format("{}", static_cast<std::int64_t>(mark.amount));
}

}  // namespace hew
