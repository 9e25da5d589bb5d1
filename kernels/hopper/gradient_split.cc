#include "kernels/hopper/gradient_split.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace hew::kernels::hopper {
namespace {

// Of an H100, in nanoseconds and bytes a nanosecond. The rates are measured (7.8 TB/s from L2 over
// 132 multiprocessors, 3.0 TB/s from device memory), the times are estimates.
constexpr double kLoadRate = 59;       // into one multiprocessor while all of them load
constexpr double kShortestStep = 300;  // latency of a load over the stages in flight
constexpr double kItemEnd = 3000;      // to write the sums of an item
constexpr double kSecondKernel = 3000;
constexpr double kMemoryRate = 3000;   // of the whole device, with
constexpr double kEnough = 0.8;        // that share of the multiprocessors at work
constexpr double kPartialRate = 4500;  // of partial sums, which stay in L2

constexpr std::int64_t kMinSteps = 4;  // of a split
constexpr std::int64_t kMaxSplits = 64;
constexpr double kItemSums = 2 * 64 * 256 * 4;  // bytes, at most
constexpr double kStepTokens = 64;

double expected_time(const GradientWork& work, const GradientSplit& split) {
  const auto processors = static_cast<double>(work.multiprocessors);
  const auto items = static_cast<double>(work.items);
  const auto steps = static_cast<double>(work.steps);
  const auto splits = static_cast<double>(split.splits);
  const double panel_bytes =
      kStepTokens * 2 * static_cast<double>(std::min<std::int64_t>(work.block, 64));
  auto item_time = [&](double panels, double parts) {
    const double step = std::max(kShortestStep, panels * panel_bytes / kLoadRate);
    return steps * step / parts + kItemEnd;
  };
  const double mean_panels = static_cast<double>(work.panels) / items;
  const auto most_panels = static_cast<double>(work.most);
  // Items differ in size and follow each other freely; the last may be a large one.
  auto time = [&](double count, double parts) {
    const double filled = count / processors;
    const double mean = item_time(mean_panels, parts);
    const double most = item_time(most_panels, parts);
    return filled > 4 ? filled * mean + most / 2 : (std::ceil(filled) - 1) * mean + most;
  };
  // Each live column is read from device memory once.
  auto memory_time = [&](double tiles) {
    const double bytes = static_cast<double>(work.live_columns) * 2 * kStepTokens * steps;
    return bytes / (kMemoryRate * std::min(1.0, tiles / (kEnough * processors))) + kItemEnd;
  };
  if (split.splits == 1)
    return std::max(time(items, 1), memory_time(items));
  const auto whole = static_cast<double>(split.whole);
  const double cut = items - whole;
  const double outputs = 4.0 * static_cast<double>(work.nnzb * work.block * work.block) / items;
  const double moved = cut * (2 * splits * std::min(2 * outputs, kItemSums) + outputs);
  const double loading =
      whole / processors * item_time(mean_panels, 1) + time(cut * splits, splits);
  return std::max(loading, memory_time(whole + cut * splits)) + kSecondKernel +
         moved / kPartialRate;
}

// So that what lies between the first and the last thread block stays in the cache, about. Items of
// 128-wide blocks, which are all of one size, keep together by themselves.
std::int64_t lead_of(const GradientWork& work, const GradientSplit& split) {
  constexpr double kAhead = 5e6;  // bytes, measured: 2.5 MB is slower, and so are 7 MB
  constexpr double kMostSteps = 64;
  if (work.block >= 128)
    return 0;
  const auto processors = static_cast<double>(work.multiprocessors);
  // Whole items that are made at a time read a share of the columns; cut ones read all of them for
  // one or more ranges of tokens.
  const double share = split.whole > 0
                           ? std::sqrt(std::min(1.0, processors / static_cast<double>(split.whole)))
                           : std::max(1.0, processors / static_cast<double>(work.items));
  const double step_bytes = static_cast<double>(work.live_columns) * 2 * kStepTokens;
  return static_cast<std::int64_t>(
      std::clamp(kAhead / std::max(share * step_bytes, 1.0), 2.0, kMostSteps));
}

}  // namespace

GradientSplit split_gradient(const GradientWork& work) {
  GradientSplit best{.whole = work.items, .splits = 1};
  double shortest = expected_time(work, best);
  const std::int64_t most = std::min(kMaxSplits, work.steps / kMinSteps);
  const std::int64_t waves = work.items / work.multiprocessors;
  for (const std::int64_t whole_waves : std::array{waves, waves - 1, std::int64_t{0}}) {
    const std::int64_t whole = std::max<std::int64_t>(0, whole_waves) * work.multiprocessors;
    for (std::int64_t splits = 2; splits <= most && whole < work.items; ++splits) {
      const GradientSplit split{.whole = whole, .splits = splits};
      const double time = expected_time(work, split);
      if (time < shortest) {
        shortest = time;
        best = split;
      }
    }
  }
  best.lead = lead_of(work, best);
  return best;
}

}  // namespace hew::kernels::hopper
