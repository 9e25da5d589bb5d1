#include "train/stop_signal.h"

#include <array>
#include <ctime>
#include <utility>

#include "core/error.h"

namespace hew::train {
namespace {

constexpr std::array<std::pair<int, std::string_view>, 3> kWatched{
    {{SIGUSR1, "SIGUSR1"}, {SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}}};

}  // namespace

StopSignal::StopSignal() {
  sigemptyset(&watched_);
  for (const auto& [number, name] : kWatched) sigaddset(&watched_, number);
  const int code = pthread_sigmask(SIG_BLOCK, &watched_, &previous_);
  if (code != 0)
    throw BackendError("pthread_sigmask", code, "cannot block the stop signals");
}

StopSignal::~StopSignal() {
  pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

std::string_view StopSignal::poll() const {
  const timespec now{};
  const int arrived = sigtimedwait(&watched_, nullptr, &now);
  for (const auto& [number, name] : kWatched) {
    if (number == arrived)
      return name;
  }
  return {};
}

}  // namespace hew::train
