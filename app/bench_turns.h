#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/stream.h"

namespace hew {

struct BenchTurns {
  std::int64_t warm_ups = 3;
  std::int64_t repeats = 20;
};

/// The upper median of at least one value.
double median(std::vector<double> values);

/// The median seconds of each body. They take turns, round after round, so that each finds the
/// caches as the others left them, and a change of the clock meets them all. On a GPU a body is
/// timed between two events on the stream, and nothing waits until all rounds are queued.
std::vector<double> median_seconds(std::span<const std::function<void()>> bodies,
                                   const BenchTurns& turns, const Stream& stream);

}  // namespace hew
