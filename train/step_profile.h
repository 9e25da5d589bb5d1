#pragma once

#include <cstdint>
#include <string>

#include "core/stream.h"

namespace hew::train {

/// Steps from `begin` to `end`, both counted from 1 and inclusive; none if end is 0.
struct StepRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Lets a stream's profiler see the steps of a range.
class StepProfile {
 public:
  StepProfile(const StepRange& range, const Stream& stream);
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;
  ~StepProfile();

  /// Throws ConfigError if no step of the range will come in a run that goes on after `done` steps
  /// and ends after `last`.
  void require_reached(std::int64_t done, std::int64_t last) const;
  /// Before step `step`.
  void begin_step(std::int64_t step);
  /// After it: the table of time by operation over the steps seen so far where the range ends here,
  /// or the run does; else nothing. Waits for the GPU only where there is a table.
  std::string end_step(std::int64_t step, bool run_ends);

 private:
  StepRange range_;
  Stream stream_;
  std::int64_t first_ = 0;  // step that was seen first; 0: none yet
};

}  // namespace hew::train
