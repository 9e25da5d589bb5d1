#pragma once

#include <csignal>
#include <string_view>

namespace hew::train {

/// Turns SIGUSR1, SIGTERM and SIGINT into a question that the training loop asks after each step
/// and before each batch of an evaluation. While it lives these signals are blocked in this thread
/// and in threads started later: make it before any other thread. One that nobody has asked for is
/// forgotten at the end: what it was to stop is over, and what comes after it would be killed.
/// Nothing is handled asynchronously, so no state is shared with a handler.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal();

  /// The name of a signal that arrived since the last call, or empty.
  std::string_view poll() const;
  /// The same of SIGTERM and SIGINT, which will not wait; SIGUSR1 stays for poll().
  std::string_view poll_urgent() const;

 private:
  sigset_t watched_{};
  sigset_t urgent_{};
  sigset_t previous_{};
};

}  // namespace hew::train
