#include "kernels/hopper/gradient_split.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace hew::kernels::hopper {
namespace {

// Of an H100, in nanoseconds and bytes a nanosecond; where nothing else is said, fitted to measured
// products with b = 64 through a simulation of their items.
constexpr double kL2Rate = 7800;       // measured, into all multiprocessors together
constexpr double kMostLoadRate = 100;  // into one, where few load
constexpr double kShortestStep = 300;  // latency of a load over the stages in flight
constexpr double kMemoryRate = 2800;   // of the whole device, in rows of 128 bytes
constexpr double kItemEnd = 4000;      // to write the sums of an item
constexpr double kSecondKernel = 6000;
constexpr double kPartialRate = 2500;  // of partial sums, written and read
constexpr double kBlockTime = 82;      // of one multiprocessor for 64 × 64 sums over a step
constexpr double kTf32BlockTime = 245;

constexpr std::int64_t kMinSteps = 4;  // of a split
constexpr std::int64_t kMaxSplits = 64;
constexpr double kItemSums = 2 * 64 * 256 * 4;  // bytes, at most
constexpr double kStepBytes = 128;              // of a column
constexpr std::int64_t kWide = 128;
// So many waves later thread blocks no longer begin together, and the last wave fills gaps.
constexpr std::int64_t kManyWaves = 3;
constexpr std::int64_t kMostWaves = 6;  // of what is cut

// Tiles of some of the items, one range of tokens after the other, a wave of thread blocks at a
// time: those of a wave go through their tokens side by side, so that a column that several of them
// need comes from device memory once.
class Waves {
 public:
  explicit Waves(const GradientWork& work)
      : processors_(work.multiprocessors),
        items_(work.items),
        columns_(static_cast<double>(work.live_columns)),
        panel_columns_(static_cast<double>(std::min<std::int64_t>(work.block, 64))),
        panels_(static_cast<double>(work.panels) / static_cast<double>(items_)),
        most_panels_(static_cast<double>(work.most)),
        readers_(
            work.block == kWide ? 1 : static_cast<double>(work.panels) * panel_columns_ / columns_),
        block_time_((work.element_bytes == 2 ? kBlockTime : kTf32BlockTime) *
                    static_cast<double>(work.nnzb * work.block * work.block) / (64 * 64) /
                    static_cast<double>(items_)) {}

  // Of `count` items over `splits` ranges of `steps` together. The largest items come first: they
  // are among these if those are all.
  double time(std::int64_t count, std::int64_t splits, double steps) const {
    const double of_tile = steps / static_cast<double>(splits);
    const std::int64_t tiles = count * splits;
    const double columns_of_all = columns_of(count);
    double sum = 0;
    for (std::int64_t first = 0; first < tiles; first += processors_) {
      const std::int64_t end = std::min(first + processors_, tiles);
      double columns = 0;
      for (std::int64_t split = first / count; split * count < end; ++split) {
        const std::int64_t begin = std::max(first, split * count);
        const std::int64_t some = std::min(end, (split + 1) * count) - begin;
        columns += some == count ? columns_of_all : columns_of(some);
      }
      const double filled = static_cast<double>(end - first) / static_cast<double>(processors_);
      const double part = first >= kManyWaves * processors_ ? (1 + filled) / 2 : 1;
      sum += part * std::max(step_time(end - first), columns * kStepBytes / kMemoryRate) * of_tile +
             kItemEnd;
    }
    if (count < items_)
      return sum;
    // A largest one is done last, when the others have left the way from L2 to it; where several
    // waves follow each other, it has begun early.
    const double late = (most_panels_ - panels_) * panel_bytes() / kMostLoadRate * of_tile;
    return sum + (tiles > processors_ ? late / 2 : late);
  }

 private:
  double panel_bytes() const { return kStepBytes * panel_columns_; }

  // What `count` items need, if each column's readers are spread over all items; those of the
  // widest blocks come one row after the other.
  double columns_of(std::int64_t count) const {
    const double others =
        1 - std::min(1.0, static_cast<double>(count) / static_cast<double>(items_));
    return columns_ * (1 - std::pow(others, readers_));
  }

  // Of as many items at a time.
  double step_time(std::int64_t count) const {
    const double rate = std::min(kMostLoadRate, kL2Rate / static_cast<double>(count));
    return std::max({kShortestStep, panels_ * panel_bytes() / rate, block_time_});
  }

  std::int64_t processors_;
  std::int64_t items_;
  double columns_;  // live ones of dy and x
  double panel_columns_;
  double panels_;  // of an item
  double most_panels_;
  double readers_;     // items that need a column
  double block_time_;  // that the blocks of an item take a step
};

double expected_time(const GradientWork& work, const GradientSplit& split) {
  const Waves waves(work);
  const auto steps = static_cast<double>(work.steps);
  if (split.splits == 1)
    return waves.time(work.items, 1, steps);
  const std::int64_t cut = work.items - split.whole;
  const auto splits = static_cast<double>(split.splits);
  const double outputs = 4.0 * static_cast<double>(work.nnzb * work.block * work.block) /
                         static_cast<double>(work.items);
  const double moved = static_cast<double>(cut) * 2 * splits * std::min(outputs, kItemSums);
  const double before = split.whole == 0 ? 0 : waves.time(split.whole, 1, steps);
  return before + waves.time(cut, split.splits, steps) + kSecondKernel + moved / kPartialRate;
}

}  // namespace

GradientSplit split_gradient(const GradientWork& work, std::int64_t splits) {
  GradientSplit best{.whole = work.items, .splits = 1};
  const std::int64_t most = std::min(splits == 0 ? kMaxSplits : splits, work.steps / kMinSteps);
  double shortest =
      splits > 1 && most > 1 ? std::numeric_limits<double>::infinity() : expected_time(work, best);
  const std::int64_t waves = work.items / work.multiprocessors;
  for (const std::int64_t whole_waves : std::array{waves, waves - 1, std::int64_t{0}}) {
    const std::int64_t whole = std::max<std::int64_t>(0, whole_waves) * work.multiprocessors;
    const std::int64_t cut = work.items - whole;
    const std::int64_t last =
        splits == 0
            ? std::min(most, kMostWaves * work.multiprocessors / std::max<std::int64_t>(cut, 1))
            : most;
    for (std::int64_t n = splits == 0 ? 2 : most; 1 < n && n <= last && cut > 0; ++n) {
      const GradientSplit split{.whole = whole, .splits = n};
      const double time = expected_time(work, split);
      if (time < shortest) {
        shortest = time;
        best = split;
      }
    }
  }
  return best;
}

}  // namespace hew::kernels::hopper
