#pragma once

#include <cstdint>

namespace hew::kernels::hopper {

/// One weight gradient, as far as its time depends on it.
struct GradientWork {
  std::int64_t items = 0;
  std::int64_t panels = 0;  // of all items
  std::int64_t most = 0;    // of one item
  std::int64_t block = 0;   // b
  std::int64_t nnzb = 0;
  std::int64_t live_columns = 0;  // of dy and x
  std::int64_t steps = 0;         // ranges of 64 tokens
  std::int64_t multiprocessors = 0;
};

/// Items [0, whole) take all tokens; the others are cut into `splits` ranges of tokens, whose sums
/// are added afterwards.
struct GradientSplit {
  std::int64_t whole = 0;
  std::int64_t splits = 1;
  std::int64_t lead = 0;  // steps that a thread block may be ahead of the mean; 0: any number
};

/// The split with the shortest expected time, such that items fill whole waves of thread blocks.
GradientSplit split_gradient(const GradientWork& work);

}  // namespace hew::kernels::hopper
