#include "train/step_profile.h"

#include <utility>

#include "core/error.h"
#include "core/profiler.h"

namespace hew::train {

StepProfile::StepProfile(const StepRange& range, const Stream& stream)
    : range_(range), stream_(stream) {}

StepProfile::~StepProfile() {
  if (first_ > 0)
    stream_.state->profiler = nullptr;
}

void StepProfile::require_reached(std::int64_t done, std::int64_t last) const {
  require<ConfigError>(
      range_.end == 0 || done >= last || (range_.end > done && range_.begin <= last),
      "command line: --profile steps={}:{}, but the steps of this run are {} to {}", range_.begin,
      range_.end, done + 1, last);
}

void StepProfile::begin_step(std::int64_t step) {
  if (first_ > 0 || step < range_.begin || step > range_.end)
    return;
  stream_.state->profiler = std::make_shared<Profiler>();
  first_ = step;
}

std::string StepProfile::end_step(std::int64_t step, bool run_ends) {
  if (first_ == 0 || stream_.state->profiler == nullptr || (step < range_.end && !run_ends))
    return {};
  const std::shared_ptr<Profiler> profiler = std::exchange(stream_.state->profiler, nullptr);
  return fmt::format("time by operation, steps {} to {}:\n{}", first_, step,
                     to_table(profiler->rows(stream_), static_cast<double>(step - first_ + 1)));
}

}  // namespace hew::train
