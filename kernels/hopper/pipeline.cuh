#pragma once

#include "kernels/hopper/ptx.cuh"

namespace hew::kernels::hopper {

/// A ring of `stages` buffers in shared memory between one producer and consumers. Each side walks
/// with a Position of its own; both have to pass every stage.
template <int stages>
struct Ring {
  std::uint32_t full = 0;   // barriers [stages]: the stage holds data
  std::uint32_t empty = 0;  // barriers [stages]: all consumers have let go of it

  static constexpr int kBarriers = 2 * stages;

  struct Position {
    std::uint32_t count = 0;
    __device__ std::uint32_t stage() const { return count % stages; }
    __device__ std::uint32_t turn() const { return count / stages & 1; }
  };

  /// `barriers` has kBarriers elements; one thread calls init() before the others go on.
  __device__ explicit Ring(const std::uint64_t* barriers)
      : full(shared_address(barriers)), empty(full + 8 * stages) {}
  __device__ void init(std::uint32_t releases, std::uint32_t fills = 1) const {
    for (int s = 0; s < stages; ++s) {
      init_barrier(full + 8 * s, fills);
      init_barrier(empty + 8 * s, releases);
    }
  }

  __device__ std::uint32_t full_barrier(Position at) const { return full + 8 * at.stage(); }
  /// Producer: waits until the stage may be written.
  __device__ void acquire(Position at) const { wait(empty + 8 * at.stage(), at.turn() ^ 1); }
  /// Consumer: waits until the stage holds data; and lets go of it.
  __device__ void await(Position at) const { wait(full + 8 * at.stage(), at.turn()); }
  __device__ void release(Position at) const { arrive(empty + 8 * at.stage()); }
};

/// A word that lane 0 reads of shared memory, in all lanes: the one that lets go of it afterwards.
template <class Read>
__device__ inline auto of_first_lane(const Read& read) {
  using Word = decltype(read());
  return __shfl_sync(~0U, threadIdx.x % 32 == 0 ? read() : Word{}, 0);
}

}  // namespace hew::kernels::hopper
