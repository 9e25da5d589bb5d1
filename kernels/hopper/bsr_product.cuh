#pragma once

#include "kernels/hopper/bsr_config.cuh"
#include "kernels/hopper/bsr_epilogue.cuh"
#include "kernels/hopper/pipeline.cuh"
#include "kernels/hopper/tile_draw.cuh"
#include "kernels/hopper/wgmma.cuh"

/// The product of a dense and a block-sparse matrix on Hopper, outᵀ = blocks · inᵀ: a warpgroup's
/// wgmma multiplies 64 features × depth of W with depth × tokens of the input. One warp loads by
/// TMA into a ring of stages; two warpgroups multiply and write. Thread blocks stay and draw tiles.
namespace hew::kernels::hopper {

inline constexpr int kWarpSize = 32;
inline constexpr int kProductThreads = 384;  // a warpgroup for the loads, two that multiply
inline constexpr int kTilesAhead = 4;

/// What a thread block's threads share; the ring's stages and the output buffers lie in dynamic
/// shared memory.
template <class Config>
struct BsrShared {
  using Stages = Ring<Config::kStages>;
  using Tiles = Ring<kTilesAhead>;

  alignas(8) std::uint64_t stage_barriers[Stages::kBarriers];
  alignas(8) std::uint64_t tile_barriers[Tiles::kBarriers];
  alignas(8) std::uint64_t turn_barriers[2];
  alignas(8) std::uint64_t loaded_barriers[2][Config::kBuffers];  // of output buffers
  Tile<Config> tiles[kTilesAhead];
  int live_strips[Config::kStages];  // bit s: strip s of the stage has a live block
};

/// A step of a group in each lane.
template <int members>
struct BsrStep {
  int column = 0;
  int positions[members] = {};

  __device__ void load(const RowGroups& groups, int step) {
    column = __ldg(groups.columns + step);
    if constexpr (members % 4 == 0) {
#pragma unroll
      for (int m = 0; m < members; m += 4) {
        const auto* from = reinterpret_cast<const int4*>(groups.positions + step * members + m);
        const int4 p = __ldg(from);
        positions[m] = p.x;
        positions[m + 1] = p.y;
        positions[m + 2] = p.z;
        positions[m + 3] = p.w;
      }
    } else if constexpr (members == 2) {
      const int2 p = __ldg(reinterpret_cast<const int2*>(groups.positions) + step);
      positions[0] = p.x;
      positions[1] = p.y;
    } else {
      positions[0] = __ldg(groups.positions + step);
    }
  }
  /// Lane `lane`'s, in all lanes.
  __device__ BsrStep of(int lane) const {
    BsrStep out;
    out.column = __shfl_sync(~0U, column, lane);
#pragma unroll
    for (int m = 0; m < members; ++m) out.positions[m] = __shfl_sync(~0U, positions[m], lane);
    return out;
  }
};

/// One warp: draws tiles, tells the consumers, loads what they need.
template <class Config>
class BsrProducer {
 public:
  __device__ BsrProducer(const BsrProductMaps& maps, const typename Config::Args& args,
                         BsrShared<Config>& shared, std::uint32_t stages)
      : maps_(maps),
        args_(args),
        shared_(shared),
        ring_(shared.stage_barriers),
        tiles_(shared.tile_barriers),
        stages_(stages),
        lane_(static_cast<int>(threadIdx.x) % kWarpSize) {}

  __device__ void run() {
    const TileDraw draw{args_.counters};
    const int count = args_.order.count();
    int index = static_cast<int>(blockIdx.x);
    while (index < count) {
      int next = 0;  // drawn now, needed a tile later
      if (lane_ == 0)
        next = draw.next();
      make(index);
      index = __shfl_sync(~0U, next, 0);
    }
    Tile<Config> end{};
    end.stages = -1;
    send(end);
    if (lane_ == 0)
      draw.finish();
  }

 private:
  static constexpr int kMembers = Config::kMembers;

  __device__ void send(const Tile<Config>& tile) {
    tiles_.acquire(sent_);
    if (lane_ == 0) {
      shared_.tiles[sent_.stage()] = tile;
      arrive(tiles_.full_barrier(sent_));
    }
    ++sent_.count;
  }

  __device__ void make(int index) {
    const TileOrder::Place at = args_.order.at(index);
    const int begin = __ldg(args_.groups.begin + at.group);
    const int steps = __ldg(args_.groups.begin + at.group + 1) - begin;
    Tile<Config> tile;
    tile.first_token = at.token_tile * Config::kTokens;
    tile.stages = steps * Config::kStagesPerBlock;
#pragma unroll
    for (int m = 0; m < kMembers; ++m)
      tile.rows[m] = __ldg(args_.groups.rows + at.group * kMembers + m);
    send(tile);
    for (int first = 0; first < steps; first += kWarpSize) {
      const int n = min(kWarpSize, steps - first);
      BsrStep<kMembers> mine;
      if (lane_ < n)
        mine.load(args_.groups, begin + first + lane_);
      for (int j = 0; j < n; ++j) {
        const BsrStep<kMembers> step = mine.of(j);
        for (int part = 0; part < Config::kStagesPerBlock; ++part) {
          ring_.acquire(at_);
          if (lane_ == 0)
            load(step, part * Config::kDepth, tile.first_token);
          ++at_.count;
        }
      }
    }
  }

  // One stage, from this depth of the blocks on.
  __device__ void load(const BsrStep<kMembers>& step, int depth, int first_token) {
    const std::uint32_t full = ring_.full_barrier(at_);
    const std::uint32_t input = stages_ + at_.stage() * Config::kStageBytes;
    int live = 0;
    int bytes = Config::kInputBytes;
#pragma unroll
    for (int s = 0; s < Config::kStrips; ++s) {
      if (is_live(step, s)) {
        live |= 1 << s;
        bytes += Config::kStripBytes;
      }
    }
    if constexpr (Config::kSkips)
      shared_.live_strips[at_.stage()] = live;
    arrive_and_expect(full, bytes);
    load_box(input, &maps_.in, full, step.column * Config::kBlock + depth, first_token);
#pragma unroll
    for (int s = 0; s < Config::kStrips; ++s) {
      if ((live >> s & 1) != 0)
        load_strip(step, s, depth, input + Config::kInputBytes + s * Config::kStripBytes, full);
    }
  }

  // The member that a part of a strip belongs to.
  __device__ static constexpr int member(int strip, int part) {
    return (strip * Config::kStrip + part * Config::kBox) / Config::kBlock;
  }

  __device__ static bool is_live(const BsrStep<kMembers>& step, int strip) {
    if constexpr (!Config::kSkips)
      return true;
    bool live = false;
#pragma unroll
    for (int p = 0; p < Config::kParts; ++p) live |= step.positions[member(strip, p)] >= 0;
    return live;
  }

  __device__ void load_strip(const BsrStep<kMembers>& step, int strip, int depth, std::uint32_t to,
                             std::uint32_t full) {
#pragma unroll
    for (int p = 0; p < Config::kParts; ++p) {
      const int position = step.positions[member(strip, p)];
      // Beside a live block a dead one reads as zeros: from behind the values.
      const int row = (position < 0 ? args_.nnzb : position) * Config::kBlock;
      const int feature = (strip * Config::kStrip + p * Config::kBox) % Config::kBlock;
      const std::uint32_t box = to + p * Config::kPartBytes;
      if constexpr (Config::kTransposed)
        load_box(box, &maps_.values, full, feature, row + depth);
      else
        load_box(box, &maps_.values, full, depth, row + feature);
    }
  }

  const BsrProductMaps& maps_;
  const typename Config::Args& args_;
  BsrShared<Config>& shared_;
  Ring<Config::kStages> ring_;
  Ring<kTilesAhead> tiles_;
  std::uint32_t stages_;
  int lane_;
  typename Ring<Config::kStages>::Position at_;
  typename Ring<kTilesAhead>::Position sent_;
};

/// sums (+)= a stage's strips · its input, both in shared memory.
template <class Config>
__device__ inline void multiply_stage(float (&sums)[Config::kOwnStrips][Config::kSums],
                                      std::uint32_t input, std::uint32_t strips, bool add) {
  constexpr Major kMajor = Config::kTransposed ? Major::kAcross : Major::kDepth;
  using Multiply = Wgmma<typename Config::Element, Config::kTokens, kMajor, Major::kDepth>;
  constexpr std::uint32_t kGroup = 8 * Config::kRowBytes;
  // Descriptors count 16 bytes. Along the depth a wgmma takes 32 bytes; across, 16 rows.
  constexpr std::uint64_t kNextInput = 2;
  constexpr std::uint64_t kNextStrip = Config::kTransposed ? Config::kRowBytes : 2;
  const std::uint64_t a = descriptor<Config::kSwizzle>(strips, Config::kPartBytes, kGroup);
  const std::uint64_t b = descriptor<Config::kSwizzle>(input, Config::kPartBytes, kGroup);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < Config::kDepth / Multiply::kDepth; ++k) {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
      Multiply::multiply(sums[s], a + s * (Config::kStripBytes / 16) + k * kNextStrip,
                         b + k * kNextInput, add || k > 0);
    }
  }
  wgmma_commit();
}

/// One of the two warpgroups that multiply. Of tiles that each makes alone, they take turns: one
/// starts to wait for a tile's stages when the other has seen all of the tile before. Else it
/// could fall a whole turn of the ring behind or ahead, and take an old phase for a new one.
template <class Config>
class BsrConsumer {
 public:
  __device__ BsrConsumer(const BsrProductMaps& maps, const typename Config::Args& args,
                         BsrShared<Config>& shared, std::uint32_t stages)
      : maps_(maps),
        args_(args),
        shared_(shared),
        ring_(shared.stage_barriers),
        tiles_(shared.tile_barriers),
        turns_(shared_address(shared.turn_barriers)),
        stages_(stages),
        group_(static_cast<int>(threadIdx.x) / 128 - 1),
        lane_(static_cast<int>(threadIdx.x) % kWarpSize),
        epilogue_(stages + Config::kStages * Config::kStageBytes +
                      group_ * Config::kBuffers * Config::kBufferBytes,
                  shared_address(shared.loaded_barriers[group_]), /*id=*/1 + group_) {}

  __device__ void run() {
    float sums[Config::kOwnStrips][Config::kSums];
    for (std::uint32_t number = 0;; ++number) {
      const OwnTile<Config> tile = receive();
      if (tile.stages < 0)
        break;
      if (!Config::kTogether && number % 2 != static_cast<std::uint32_t>(group_)) {
        at_.count += tile.stages;
        continue;
      }
      epilogue_.prefetch(tile, maps_, args_);
      if constexpr (!Config::kGradient)
        epilogue_.prepare(tile, args_);
      if constexpr (!Config::kTogether)
        await_turn(number / 2);
      multiply(sums, tile.stages);
      if constexpr (Config::kGradient)
        epilogue_.write_gradient(sums, tile, maps_, args_);
      else
        epilogue_.write(sums, tile, maps_, args_);
    }
    epilogue_.finish();
  }

 private:
  __device__ OwnTile<Config> receive() {
    tiles_.await(received_);
    const OwnTile<Config> tile(shared_.tiles[received_.stage()], Config::kTogether ? group_ : 0);
    __syncwarp();  // all lanes have read
    if (lane_ == 0)
      tiles_.release(received_);
    ++received_.count;
    return tile;
  }

  // Before this warpgroup's own tile n: the other has seen the stages of the tile before, which is
  // its own n − 1 or n.
  __device__ void await_turn(std::uint32_t n) const {
    if (group_ == 1)
      wait(turns_ + 8, n & 1);
    else if (n > 0)
      wait(turns_, (n - 1) & 1);
  }
  __device__ void pass_turn() const {
    if (lane_ == 0)
      arrive(turns_ + 8 * static_cast<std::uint32_t>(1 - group_));
  }

  // Each warp for itself where warps may skip a stage, else one thread for all.
  __device__ void release(typename Ring<Config::kStages>::Position at) const {
    if (lane_ == 0 && (Config::kSkips || threadIdx.x % 128 == 0))
      ring_.release(at);
  }

  // The sums of the next `stages` stages. A stage is let go of when the next one's wgmma is on its
  // way.
  __device__ void multiply(float (&sums)[Config::kOwnStrips][Config::kSums], int stages) {
    bool any = false;
    bool in_flight = false;
    typename Ring<Config::kStages>::Position before;
    for (int k = 0; k < stages; ++k, ++at_.count) {
      ring_.await(at_);
      bool live = true;
      if constexpr (Config::kSkips) {
        live = (shared_.live_strips[at_.stage()] >> group_ & 1) != 0;
        __syncwarp();  // all lanes have read
      }
      if (live) {
        const std::uint32_t input = stages_ + at_.stage() * Config::kStageBytes;
        const std::uint32_t strips =
            input + Config::kInputBytes + (Config::kTogether ? group_ * Config::kStripBytes : 0);
        multiply_stage<Config>(sums, input, strips, any);
        wgmma_wait<1>();
        if (in_flight)
          release(before);
        before = at_;
        in_flight = true;
        any = true;
      } else {
        // A ring of skipped stages behind one that is held would stop the producer.
        if (in_flight) {
          wgmma_wait<0>();
          release(before);
          in_flight = false;
        }
        release(at_);
      }
    }
    if constexpr (!Config::kTogether)
      pass_turn();
    wgmma_wait<0>();
    if (in_flight)
      release(before);
#pragma unroll
    for (auto& strip : sums) {
#pragma unroll
      for (float& sum : strip) {
        settle(sum);
        if (!any)
          sum = 0.0F;
      }
    }
  }

  const BsrProductMaps& maps_;
  const typename Config::Args& args_;
  BsrShared<Config>& shared_;
  Ring<Config::kStages> ring_;
  Ring<kTilesAhead> tiles_;
  std::uint32_t turns_;
  std::uint32_t stages_;
  int group_;
  int lane_;
  BsrEpilogue<Config> epilogue_;
  typename Ring<Config::kStages>::Position at_;
  typename Ring<kTilesAhead>::Position received_;
};

template <class Config>
__global__ __launch_bounds__(kProductThreads,
                             1) void bsr_product_kernel(const __grid_constant__ BsrProductMaps maps,
                                                        const __grid_constant__
                                                        typename Config::Args args) {
  constexpr int kLoadingRegisters = 40;
  constexpr int kMultiplyingRegisters = 232;
  constexpr int kMultiplyingWarps = 8;
  extern __shared__ std::uint8_t dynamic[];
  __shared__ BsrShared<Config> shared;
  const std::uint32_t stages =
      (shared_address(dynamic) + Config::kAlignment - 1) / Config::kAlignment * Config::kAlignment;
  if (threadIdx.x == 0) {
    Ring<Config::kStages>(shared.stage_barriers).init(Config::kReleases);
    Ring<kTilesAhead>(shared.tile_barriers).init(kMultiplyingWarps);
    init_barrier(shared_address(shared.turn_barriers), 4);
    init_barrier(shared_address(shared.turn_barriers) + 8, 4);
    for (auto& of_group : shared.loaded_barriers) {
      for (std::uint64_t& barrier : of_group) init_barrier(shared_address(&barrier), 1);
    }
    fence_barrier_init();
    prefetch_map(&maps.in);
    prefetch_map(&maps.values);
    prefetch_map(&maps.out);
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    give_registers<kLoadingRegisters>();
    if (threadIdx.x < kWarpSize)
      BsrProducer<Config>(maps, args, shared, stages).run();
  } else {
    take_registers<kMultiplyingRegisters>();
    BsrConsumer<Config>(maps, args, shared, stages).run();
  }
}

}  // namespace hew::kernels::hopper
