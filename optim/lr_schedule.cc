#include "optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hew::optim {
namespace {

// x of the docstring; a run that ends at `start` has not begun to fall.
double fallen(std::int64_t step, std::int64_t start, std::int64_t end) {
  if (step <= start)
    return 0;
  return std::min(1.0, static_cast<double>(step - start) /
                           static_cast<double>(std::max(end - start, std::int64_t{1})));
}

}  // namespace

double learning_rate(const OptimConfig& config, std::int64_t step, std::int64_t total) {
  const LrScheduleConfig& schedule = config.schedule;
  const std::int64_t warmup = schedule.warmup.step;
  if (step < warmup) {
    return config.lr * (static_cast<double>(step + 1) / static_cast<double>(warmup));
  }
  const std::int64_t peak = std::max(warmup - 1, std::int64_t{0});
  const std::int64_t last = total - 1;
  double fall = 0;
  switch (schedule.kind) {
    case LrScheduleKind::kConstant:
      break;
    case LrScheduleKind::kLinear:
      fall = fallen(step, peak, last);
      break;
    case LrScheduleKind::kCosine:
      fall = (1 - std::cos(std::numbers::pi * fallen(step, peak, last))) / 2;
      break;
    case LrScheduleKind::kWsd:
      fall = fallen(step, std::max(peak, last - schedule.decay.step), last);
      break;
  }
  return config.lr * (1 - (1 - schedule.final) * fall);
}

}  // namespace hew::optim
