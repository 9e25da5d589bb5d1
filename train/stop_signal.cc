#include "train/stop_signal.h"

#include <array>
#include <ctime>
#include <utility>

#include "core/error.h"

namespace hew::train {
namespace {

constexpr std::array<std::pair<int, std::string_view>, 3> kWatched{
    {{SIGUSR1, "SIGUSR1"}, {SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}}};

// The name of a signal of the set that is pending, or empty; it is so no longer.
std::string_view take(const sigset_t& signals) {
  const timespec now{};
  const int arrived = sigtimedwait(&signals, nullptr, &now);
  for (const auto& [number, name] : kWatched) {
    if (number == arrived)
      return name;
  }
  return {};
}

}  // namespace

StopSignal::StopSignal() {
  sigemptyset(&watched_);
  for (const auto& [number, name] : kWatched) sigaddset(&watched_, number);
  sigemptyset(&urgent_);
  for (const int number : {SIGTERM, SIGINT}) sigaddset(&urgent_, number);
  const int code = pthread_sigmask(SIG_BLOCK, &watched_, &previous_);
  if (code != 0)
    throw BackendError("pthread_sigmask", code, "cannot block the stop signals");
}

StopSignal::~StopSignal() {
  while (!poll().empty()) {
  }
  pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

std::string_view StopSignal::poll() const {
  return take(watched_);
}

std::string_view StopSignal::poll_urgent() const {
  return take(urgent_);
}

}  // namespace hew::train
