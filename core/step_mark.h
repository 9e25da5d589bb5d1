#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hew {

/// A step of the training run, or a number of steps, as a recipe writes it: `2000`, `-500` (so many
/// steps before the end) or `25%` (of the run). It keeps what was written, so that a run made
/// longer moves its relative marks; `step` holds the answer once `resolve` has been called.
struct StepMark {
  enum class Unit : std::uint8_t { kStep, kPercent };

  double amount = 0;
  Unit unit = Unit::kStep;
  std::int64_t step = 0;

  static StepMark at(std::int64_t step) { return {static_cast<double>(step), Unit::kStep, step}; }
  static StepMark percent(double amount) { return {amount, Unit::kPercent, 0}; }

  /// Sets `step` for a run of `total` steps: ⌊amount/100·total⌋, the amount itself, or total +
  /// amount if that is negative.
  void resolve(std::int64_t total);

  /// Equal as written.
  friend bool operator==(const StepMark& a, const StepMark& b) {
    return a.amount == b.amount && a.unit == b.unit;
  }
};

/// Nothing unless `text` is an integer or a percentage from 0% to 100%.
std::optional<StepMark> parse_step_mark(std::string_view text);
/// As written: "2000", "-500" or "25%".
std::string to_string(const StepMark& mark);

}  // namespace hew
