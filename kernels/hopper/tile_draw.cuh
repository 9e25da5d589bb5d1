#pragma once

#include "kernels/hopper/ptx.cuh"

namespace hew::kernels::hopper {

/// A thread block's way through the tiles of a kernel: its own number first, then whatever comes
/// next, so that blocks with short tiles make more of them. `counters` are those of a
/// ThreadBlockCounters.
struct TileDraw {
  int* counters;

  /// By one thread of the block.
  __device__ int next() const { return atomicAdd(counters, 1) + static_cast<int>(gridDim.x); }
  /// By that thread, when it has drawn its last: the last block's leaves the counters zero.
  __device__ void finish() const {
    __threadfence();
    if (atomicAdd(counters + 1, 1) == static_cast<int>(gridDim.x) - 1) {
      counters[0] = 0;
      counters[1] = 0;
    }
  }
};

}  // namespace hew::kernels::hopper
