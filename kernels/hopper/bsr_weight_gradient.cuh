#pragma once

#include "kernels/hopper/gradient_pace.cuh"
#include "kernels/hopper/gradient_sums.cuh"
#include "kernels/hopper/gradient_sums_tf32.cuh"
#include "kernels/hopper/pipeline.cuh"

/// The kernel of the weight gradient: dvalues[p] (+)= dy[:, r]ᵀ·x[:, c] for items of live blocks.
/// One warp keeps panels of dy and x flowing into a ring in shared memory, at the pace of the other
/// thread blocks; two warpgroups multiply them with the tokens as depth, both operands as they lie
/// in memory.
namespace hew::kernels::hopper {

constexpr int kGradientThreads = 3 * kWarpgroupThreads;  // one warpgroup loads

constexpr int kTiles = 2;  // in the queue; what b = 64 in bf16 leaves room for

/// Where a thread keeps its part of a group of partial sums: float4 number i at [i · 128].
__device__ inline float4* partial_group(const GradientParams& g, int tile, int warpgroup,
                                        int group) {
  const std::int64_t at = (std::int64_t{tile} * 2 + warpgroup) * kGroups + group;
  return reinterpret_cast<float4*>(g.partial + at * kGroupElements) +
         threadIdx.x % kWarpgroupThreads;
}

/// Hands tiles out and fills the ring for them.
template <class Config>
class GradientLoader {
 public:
  using Stages = Ring<Config::kStages>;
  using Tiles = Ring<kTiles>;

  __device__ GradientLoader(const GradientParams& g, const CUtensorMap* dy, const CUtensorMap* x,
                            Pace& pace)
      : g_(g), dy_(dy), x_(x), pace_(pace) {}

  __device__ void run(const Stages& stages, std::uint32_t base, const Tiles& tiles,
                      GradientTile* queue) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    typename Stages::Position at;
    Tiles::Position tile_at;
    int tile = static_cast<int>(blockIdx.x);
    while (true) {
      const bool valid = tile < g_.tiles();
      int next = 0;
      if (valid && lane == 0)
        next = g_.draw.next();
      tiles.acquire(tile_at);
      GradientTile& slot = queue[tile_at.stage()];
      hand_over(slot, valid ? tile : -1, lane);
      arrive(tiles.full_barrier(tile_at));  // each lane for what it has written
      __syncwarp();
      ++tile_at.count;
      if (!valid)
        return;
      load(slot, stages, at, base, lane);
      tile = __shfl_sync(~0U, next, 0);
    }
  }

 private:
  __device__ void hand_over(GradientTile& slot, int tile, int lane) const {
    const int split = tile < g_.whole ? 0 : (tile - g_.whole) / g_.cut;
    const int splits = tile < g_.whole ? 1 : g_.splits;
    if (tile >= 0) {
      const int item = tile < g_.whole ? tile : g_.whole + (tile - g_.whole) % g_.cut;
      constexpr int kPieces = sizeof(GradientItem) / sizeof(int2);
      const auto* const from = reinterpret_cast<const int2*>(g_.items + item);
#pragma unroll
      for (int i = 0; i < kPieces; i += 32)
        reinterpret_cast<int2*>(&slot.item)[i + lane] = __ldg(from + i + lane);
    }
    if (lane == 0) {
      const auto first = static_cast<int>(std::int64_t{g_.steps} * split / splits);
      const auto last = static_cast<int>(std::int64_t{g_.steps} * (split + 1) / splits);
      slot.first_step = first;
      slot.steps = tile < 0 ? -1 : last - first;
      slot.partial = tile < g_.whole ? -1 : tile - g_.whole;
    }
  }

  __device__ void load(const GradientTile& tile, const Stages& stages,
                       typename Stages::Position& at, std::uint32_t base, int lane) {
    const int panels = tile.item.panels;
    const int left = tile.item.left_panels;
    const int start = lane < panels ? tile.item.start[lane] : 0;
    const int more = 32 + lane < panels ? tile.item.start[32 + lane] : 0;
    const CUtensorMap* const left_map = tile.item.transposed != 0 ? x_ : dy_;
    const CUtensorMap* const right_map = tile.item.transposed != 0 ? dy_ : x_;
    const int first = tile.first_step;
    const int steps = tile.steps;
    for (int step = 0; step < steps; ++step, ++at.count) {
      if (g_.lead > 0)
        allowed_ = pace_.await(static_cast<int>(at.count), allowed_);
      stages.acquire(at);
      const std::uint32_t full = stages.full_barrier(at);
      const std::uint32_t to = base + at.stage() * Config::kStageBytes;
      const int token = (first + step) * Config::kStepTokens;
      if (lane == 0)
        arrive_and_expect(full, panels * Config::kPanelBytes);
      for (int j = 0; j < panels; ++j) {
        const int column = __shfl_sync(~0U, j < 32 ? start : more, j % 32);
        if (lane == 0)
          load_panel(to + j * Config::kPanelBytes, j < left ? left_map : right_map, full, column,
                     token);
      }
    }
  }

  __device__ static void load_panel(std::uint32_t to, const CUtensorMap* map, std::uint32_t full,
                                    int column, int token) {
#pragma unroll
    for (int box = 0; box < Config::kBoxes; ++box) {
      load_box(to + box * Config::kBoxBytes, map, full, column + box * Config::kRow, token);
    }
  }

  const GradientParams& g_;
  const CUtensorMap* dy_;
  const CUtensorMap* x_;
  Pace& pace_;
  int allowed_ = 0;  // steps
};

/// One warpgroup's share of a tile, 64 × 64·groups sums; 0 groups: it only lets the stages pass.
/// With two left operands, one for each half of four groups.
template <class Config, int groups, int lefts = 1>
__device__ __forceinline__ void make_gradient_tile(const GradientParams& g,
                                                   const GradientTile& tile, int warpgroup,
                                                   const Ring<Config::kStages>& stages,
                                                   typename Ring<Config::kStages>::Position& at,
                                                   std::uint32_t base) {
  const bool speaks = threadIdx.x % 32 == 0;  // for its warp
  const int steps = tile.steps;
  if constexpr (groups == 0) {
    for (int step = 0; step < steps; ++step, ++at.count) {
      stages.await(at);
      __syncwarp();
      if (speaks)
        stages.release(at);
    }
    return;
  } else {
    using Sums = GradientSums<Config>;
    float sums[groups * kGroupSums];
#pragma unroll
    for (float& sum : sums) sum = 0.0F;
    const GradientItem::Warpgroup of = tile.item.of[warpgroup];
    const std::uint32_t left_base = base + of.left[0] * Config::kPanelBytes;
    const std::uint32_t right_base = base + of.right * Config::kPanelBytes;
    typename Ring<Config::kStages>::Position before = at;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      const std::uint32_t stage = at.stage() * Config::kStageBytes;
      stages.await(at);
      if constexpr (lefts == 1) {
        Sums::template multiply<groups>(sums, left_base + stage, right_base + stage);
      } else {
        constexpr int kHalf = groups / 2;
        const std::uint32_t second_left = base + of.left[1] * Config::kPanelBytes + stage;
        const std::uint32_t second_right =
            right_base + kHalf * kGroupWidth / Config::kPanel * Config::kPanelBytes + stage;
        using Half = float(&)[kHalf * kGroupSums];
        Sums::template multiply<kHalf>(reinterpret_cast<Half>(sums), left_base + stage,
                                       right_base + stage);
        Sums::template multiply<kHalf>(reinterpret_cast<Half>(sums[kHalf * kGroupSums]),
                                       second_left, second_right);
      }
      if constexpr (Sums::kAsync) {
        wgmma_wait<lefts>();  // the step before has been read
        if (step > 0 && speaks)
          stages.release(before);
        before = at;
      } else {
        __syncwarp();  // all lanes have read
        if (speaks)
          stages.release(at);
      }
      ++at.count;
    }
    if constexpr (Sums::kAsync) {
      wgmma_wait<0>();
      if (speaks)
        stages.release(before);
    }
#pragma unroll
    for (int group = 0; group < groups; ++group) {
      float(&part)[kGroupSums] = *reinterpret_cast<float(*)[kGroupSums]>(sums + group * kGroupSums);
      if (tile.partial < 0) {
        constexpr int kAtOnce = Sums::kAtOnce;
#pragma unroll
        for (int i = 0; i < Sums::kPieces; i += kAtOnce) {
          Sums::template write<kAtOnce>(
              g, tile.item, warpgroup, group * Sums::kPieces + i,
              *reinterpret_cast<float(*)[Sums::kPieceSums * kAtOnce]>(part + Sums::kPieceSums * i));
        }
        continue;
      }
      float4* const to = partial_group(g, tile.partial, warpgroup, group);
#pragma unroll
      for (int i = 0; i < kGroupSums / 4; ++i)
        to[i * kWarpgroupThreads] =
            make_float4(part[4 * i], part[4 * i + 1], part[4 * i + 2], part[4 * i + 3]);
    }
  }
}

/// The 64-wide groups that a warpgroup's right panels fill.
template <class Config>
__device__ int groups_of(const GradientItem& item, int warpgroup) {
  return (item.of[warpgroup].slots * Config::kPanel + kGroupWidth - 1) / kGroupWidth;
}

/// As many thread blocks as multiprocessors; each takes the next tile when it has done one.
template <class Config>
__global__ __launch_bounds__(kGradientThreads, 1) void weight_gradient_kernel(
    const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap x,
    const __grid_constant__ GradientParams g) {
  using Stages = Ring<Config::kStages>;
  using Tiles = Ring<kTiles>;
  extern __shared__ std::uint8_t stage_bytes[];
  __shared__ alignas(16) std::uint8_t queue_bytes[kTiles * sizeof(GradientTile)];
  __shared__ alignas(8) std::uint64_t stage_barriers[Stages::kBarriers];
  __shared__ alignas(8) std::uint64_t tile_barriers[Tiles::kBarriers];
  __shared__ Pace pace;
  auto* const queue = reinterpret_cast<GradientTile*>(queue_bytes);
  constexpr int kConsumerWarps = 2 * kWarpgroupThreads / 32;
  const std::uint32_t base = (shared_address(stage_bytes) + 1023) & ~1023U;
  const Stages stages(stage_barriers);
  const Tiles tiles(tile_barriers);
  if (threadIdx.x == 0) {
    stages.init(kConsumerWarps);
    tiles.init(2 * kWarpgroupThreads, /*fills=*/32);
    pace.init(g.lead);
    fence_barrier_init();
    prefetch_map(&dy);
    prefetch_map(&x);
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < kWarpgroupThreads / 32) {  // the loading warpgroup
    give_registers<40>();
    if (warp == 1 && threadIdx.x % 32 == 0 && g.lead > 0)
      Pacer(g.at_work, g.lead).run(pace);
    if (warp != 0)
      return;
    GradientLoader<Config>(g, &dy, &x, pace).run(stages, base, tiles, queue);
    if (threadIdx.x == 0) {
      pace.finish();
      allow_dependents();
      g.draw.finish();
    }
    return;
  }
  take_registers<232>();
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroupThreads - 1;
  typename Stages::Position at;
  for (Tiles::Position tile_at;; ++tile_at.count) {
    tiles.await(tile_at);
    const GradientTile& tile = queue[tile_at.stage()];
    if (tile.steps < 0)
      return;
    auto make = [&]<int groups, int lefts = 1>() {
      make_gradient_tile<Config, groups, lefts>(g, tile, warpgroup, stages, at, base);
    };
    const GradientItem::Warpgroup& of = tile.item.of[warpgroup];
    switch (groups_of<Config>(tile.item, warpgroup)) {
      case 0:
        make.template operator()<0>();
        break;
      case 1:
        make.template operator()<1>();
        break;
      case 2:
        make.template operator()<2>();
        break;
      case 3:
        make.template operator()<3>();
        break;
      default:
        if constexpr (Config::kBlock == 64) {
          if (of.left[0] != of.left[1]) {
            make.template operator()<4, 2>();
            break;
          }
        }
        make.template operator()<4>();
    }
    tiles.release(tile_at);  // each thread for what it has read
    __syncwarp();
  }
}

/// dvalues (+)= the sums of the splits in order. One thread block for a piece of a warpgroup's sums
/// of a cut item, so that few items fill the GPU too. Starts while the kernel before it ends.
template <class Config>
__global__ __launch_bounds__(kWarpgroupThreads) void add_partials_kernel(
    const __grid_constant__ GradientParams g) {
  using Sums = GradientSums<Config>;
  constexpr int kPacks = Sums::kPieceSums / 4;  // float4 of a piece
  const int piece = static_cast<int>(blockIdx.x) % (kGroups * Sums::kPieces);
  const int warpgroup = static_cast<int>(blockIdx.x) / (kGroups * Sums::kPieces) % 2;
  const int cut = static_cast<int>(blockIdx.x) / (kGroups * Sums::kPieces) / 2;
  const GradientItem& item = g.items[g.whole + cut];
  if (Sums::slot_of(piece) >= item.of[warpgroup].slots)
    return;
  await_kernel_before();
  const std::int64_t distance = std::int64_t{g.cut} * 2 * kGroups * kGroupElements / 4;
  const float4* from = partial_group(g, cut, warpgroup, piece / Sums::kPieces) +
                       piece % Sums::kPieces * kPacks * kWarpgroupThreads;
  float sums[Sums::kPieceSums] = {};
  constexpr int kAtOnce = 8 / kPacks;  // splits whose loads are in flight
  for (int split = 0; split < g.splits; split += kAtOnce, from += kAtOnce * distance) {
    float4 parts[kAtOnce][kPacks];
#pragma unroll
    for (int i = 0; i < kAtOnce * kPacks; ++i) {
      const int of = i / kPacks;
      parts[of][i % kPacks] =
          split + of < g.splits ? from[of * distance + i % kPacks * kWarpgroupThreads] : float4{};
    }
#pragma unroll
    for (int i = 0; i < kAtOnce * kPacks; ++i) {
      const float4& part = parts[i / kPacks][i % kPacks];
      float* const sum = sums + i % kPacks * 4;
      sum[0] += part.x;
      sum[1] += part.y;
      sum[2] += part.z;
      sum[3] += part.w;
    }
  }
  Sums::template write<1>(g, item, warpgroup, piece, sums);
}

}  // namespace hew::kernels::hopper
