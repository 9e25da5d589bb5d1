#include "app/bench_turns.h"

#include <algorithm>
#include <chrono>
#include <deque>

#include "core/cuda_device.h"

namespace hew {
namespace {

using Times = std::vector<std::vector<double>>;  // of each body, one a round

Times times_on_cpu(std::span<const std::function<void()>> bodies, std::int64_t repeats) {
  using Clock = std::chrono::steady_clock;
  Times times(bodies.size());
  for (std::int64_t round = 0; round < repeats; ++round) {
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      const auto start = Clock::now();
      bodies[i]();
      times[i].push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  return times;
}

Times times_on_gpu(std::span<const std::function<void()>> bodies, std::int64_t repeats,
                   const Stream& stream) {
  const auto calls = static_cast<std::size_t>(repeats) * bodies.size();
  std::deque<cuda::Mark> begins(calls);
  std::deque<cuda::Mark> ends(calls);
  for (std::size_t call = 0; call < calls; ++call) {
    begins[call].record(stream);
    bodies[call % bodies.size()]();
    ends[call].record(stream);
  }
  synchronize(stream);
  Times times(bodies.size());
  for (std::size_t call = 0; call < calls; ++call) {
    times[call % bodies.size()].push_back(ends[call].seconds_since(begins[call]));
  }
  return times;
}

}  // namespace

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<double> median_seconds(std::span<const std::function<void()>> bodies,
                                   const BenchTurns& turns, const Stream& stream) {
  for (std::int64_t round = 0; round < turns.warm_ups; ++round) {
    for (const auto& body : bodies) body();
  }
  const Times times = stream.device.is_cpu() ? times_on_cpu(bodies, turns.repeats)
                                             : times_on_gpu(bodies, turns.repeats, stream);
  std::vector<double> medians;
  medians.reserve(times.size());
  for (const auto& of_body : times) medians.push_back(median(of_body));
  return medians;
}

}  // namespace hew
