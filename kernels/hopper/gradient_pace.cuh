#pragma once

/// Thread blocks that go through the same tokens at the same time share what they load through the
/// second-level cache, as long as none runs far ahead: else the others find it gone, and device
/// memory binds. So none begins a step that is more than `lead` steps beyond the mean of those that
/// are at work. Results do not depend on it, and whichever of them a GPU runs at a time, one that
/// is not ahead of the mean never waits.
namespace hew::kernels::hopper {

/// In shared memory, between the warp that loads and the thread that paces it.
class Pace {
 public:
  static constexpr int kDone = -1;

  __device__ void init(int lead) {
    begun_ = 0;
    limit_ = lead;
  }

  /// By the loading warp, before it begins step `step`, counted from 0 over all its tiles: how many
  /// steps it may begin, more than `step`. `known` is what it was told last.
  __device__ int await(int step, int known) {
    const bool first = threadIdx.x % 32 == 0;
    if (first)
      atomicExch(&begun_, step + 1);
    while (step >= known) known = __shfl_sync(~0U, first ? atomicAdd(&limit_, 0) : 0, 0);
    return known;
  }
  /// By one of its threads, after the last step.
  __device__ void finish() { atomicExch(&begun_, kDone); }

  /// By the thread that paces it: the steps that have begun or wait to, or kDone; and how many may.
  __device__ int begun() { return atomicAdd(&begun_, 0); }
  __device__ void allow(int steps) { atomicExch(&limit_, steps); }

 private:
  int begun_;
  int limit_;
};

/// `at_work`, zero before and after: how many thread blocks have steps to begin, times 2³², and how
/// many these have begun, all together less than 2³². One that starts late, for want of a free
/// multiprocessor, counts as being at the mean: else the others would wait until it has caught up.
class Pacer {
 public:
  __device__ Pacer(unsigned long long* at_work, int lead) : at_work_(at_work), lead_(lead) {}

  /// By one thread, until pace.begun() is kDone.
  __device__ void run(Pace& pace) const {
    constexpr unsigned long long kOne = 1ULL << 32;
    constexpr unsigned int kNap = 100;  // ns
    const unsigned int start = mean(atomicAdd(at_work_, 0ULL));
    unsigned long long told = kOne + start;
    unsigned long long all = atomicAdd(at_work_, told) + told;
    while (true) {
      pace.allow(static_cast<int>(mean(all) - start) + lead_);
      __nanosleep(kNap);
      const int begun = pace.begun();
      if (begun == Pace::kDone)
        break;
      const unsigned long long more = kOne + start + begun - told;
      all = atomicAdd(at_work_, more) + more;
      told += more;
    }
    atomicAdd(at_work_, ~told + 1);  // all that was told is taken back
  }

 private:
  __device__ static unsigned int mean(unsigned long long all) {
    const auto blocks = static_cast<unsigned int>(all >> 32);
    return blocks == 0 ? 0 : static_cast<unsigned int>(all) / blocks;
  }

  unsigned long long* at_work_;
  int lead_;
};

}  // namespace hew::kernels::hopper
