#pragma once

#include "kernels/hopper/mlp_consumer.cuh"
#include "kernels/hopper/mlp_loaders.cuh"

/// y = act(x·Wupᵀ + bias)·Wdownᵀ + bias for a tile of tokens at a time, without the hidden matrix
/// in device memory; see mlp_program.h. All products are transposed as in bsr_product.cuh: 64 rows
/// of W × tokens. The input stays in shared memory, the output in the registers of three
/// warpgroups, each of which gets its blocks through a ring of its own. A fourth warpgroup's warps
/// load: one for each ring, one for the input. Thread block i makes tiles i, i + blocks, …
///
/// Two thread blocks, a cluster, walk side by side. Each loads one half of every box of W into the
/// same stage of both, once the warps of both have let go of it: W comes from L2 once for two
/// tiles. All else is each one's own. Both make as many tiles, the last perhaps behind the matrix,
/// and neither ends while the other may still reach its shared memory.
namespace hew::kernels::hopper {

inline constexpr int kMlpThreads = 128 * (1 + kMlpWarpgroups);

template <class Config>
__device__ void init_mlp_barriers(const MlpShared<Config>& shared) {
  for (const auto& of_group : shared.stage_barriers)
    Ring<Config::kStages>(of_group).init(4 * kMlpCluster);
  const Ring<Config::kSlots> slots(shared.slot_barriers);
  for (int s = 0; s < Config::kSlots; ++s) {
    init_barrier(slots.full + 8 * s, 4);  // the warps of who made the strip
    init_barrier(slots.empty + 8 * s, kMlpWarps);
  }
  Ring<1>(shared.input_barriers).init(kMlpWarps);
  fence_barrier_init();
}

template <class Config>
__global__ __cluster_dims__(kMlpCluster, 1, 1)
    __launch_bounds__(kMlpThreads, 1) void bsr_mlp_kernel(const __grid_constant__ MlpMaps maps,
                                                          const __grid_constant__ MlpArgs args) {
  constexpr int kLoadingRegisters = 32;
  constexpr int kMultiplyingRegisters = 160;
  extern __shared__ std::uint8_t dynamic[];
  __shared__ MlpShared<Config> shared;
  const std::uint32_t aligned =
      (shared_address(dynamic) + Config::kAlignment - 1) / Config::kAlignment * Config::kAlignment;
  const std::uint32_t memory = __shfl_sync(~0U, aligned, 0);  // else it is computed at every step
  if (threadIdx.x == 0) {
    init_mlp_barriers(shared);
    prefetch_map(&maps.in);
    prefetch_map(&maps.up);
    prefetch_map(&maps.down);
    prefetch_map(&maps.out);
  }
  cluster_barrier();
  if (threadIdx.x < 128) {
    give_registers<kLoadingRegisters>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x % 32 == 0) {
      if (warp == kMlpWarpgroups)
        load_mlp_input<Config>(maps, args, Ring<1>(shared.input_barriers), memory);
      else
        MlpBlockLoader<Config>(
            maps, args, shared,
            memory + Config::kStagesAt + warp * Config::kStages * Config::kStageBytes, warp)
            .run();
    }
  } else {
    take_registers<kMultiplyingRegisters>();
    MlpConsumer<Config>(maps, args, shared, memory).run();
  }
  cluster_barrier();
}

}  // namespace hew::kernels::hopper
