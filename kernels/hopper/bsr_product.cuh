#pragma once

#include "kernels/hopper/bsr_epilogue.cuh"
#include "kernels/hopper/bsr_parts.cuh"
#include "kernels/hopper/bsr_producer.cuh"
#include "kernels/hopper/wgmma.cuh"

/// The product of a dense and a block-sparse matrix on Hopper, outᵀ = blocks · inᵀ: a warpgroup's
/// wgmma multiplies 64 features × depth of W with depth × tokens of the input. Warps of the first
/// warpgroup load into a ring of stages, by TMA and, of short rows, by copies of their own; two
/// warpgroups multiply and write. Thread blocks stay and draw tiles.
namespace hew::kernels::hopper {

inline constexpr int kProductThreads = 384;  // a warpgroup for the loads, two that multiply

/// sums (+)= a stage's strips · its input, both in shared memory. Bit s of `live` is a strip that
/// is multiplied, of `added` one that has sums.
template <class Config, int live>
__device__ inline void multiply_strips(float (&sums)[Config::kOwnStrips][Config::kSums],
                                       std::uint32_t input, std::uint32_t strips, int added) {
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
      if ((live >> s & 1) != 0) {
        Multiply::multiply(sums[s], a + s * (Config::kStripBytes / 16) + k * kNextStrip,
                           b + k * kNextInput, (added >> s & 1) != 0 || k > 0);
      }
    }
  }
  wgmma_commit();
}

template <class Config>
__device__ inline void multiply_stage(float (&sums)[Config::kOwnStrips][Config::kSums],
                                      std::uint32_t input, std::uint32_t strips, int live,
                                      int added) {
  constexpr int kAll = (1 << Config::kOwnStrips) - 1;
  if (!Config::kSkips || live == kAll)
    multiply_strips<Config, kAll>(sums, input, strips, added);
  else if (live == 1)
    multiply_strips<Config, 1 & kAll>(sums, input, strips, added);
  else
    multiply_strips<Config, 2 & kAll>(sums, input, strips, added);
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
                  shared_address(shared.loaded_barriers[group_]), /*id=*/1 + group_),
        parts_(shared.last_parts[group_], group_) {}

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
      if (tile.part.count() == 0)
        epilogue_.prefetch(tile, maps_, args_);
      if constexpr (!Config::kGradient)
        epilogue_.prepare(tile, args_);
      if constexpr (!Config::kTogether)
        await_turn(number / 2);
      multiply(sums, tile.stages);
      if constexpr (Config::kCuts) {
        if (tile.part.count() > 0) {
          if (!parts_.complete(sums, tile, args_))
            continue;
          epilogue_.prefetch(tile, maps_, args_);
        }
      }
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
    const OwnTile<Config> tile(shared_.tiles[received_.stage()],
                               Config::kTogether ? group_ * Config::kOwnStrips : 0);
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
    constexpr int kAll = (1 << Config::kOwnStrips) - 1;
    int added = 0;
    bool in_flight = false;
    typename Ring<Config::kStages>::Position before;
    for (int k = 0; k < stages; ++k, ++at_.count) {
      ring_.await(at_);
      if constexpr (Config::kCopies)
        fence_for_async();
      int live = kAll;
      if constexpr (Config::kSkips) {
        const int strips = of_first_lane([&] { return shared_.live_strips[at_.stage()]; });
        live = strips >> group_ * Config::kOwnStrips & kAll;
      }
      if (live != 0) {
        const std::uint32_t input = stages_ + at_.stage() * Config::kStageBytes;
        const std::uint32_t strips =
            input + Config::kInputBytes +
            (Config::kTogether ? group_ * Config::kOwnStrips * Config::kStripBytes : 0);
        multiply_stage<Config>(sums, input, strips, live, added);
        wgmma_wait<1>();
        if (in_flight)
          release(before);
        before = at_;
        in_flight = true;
        added |= live;
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
    for (int s = 0; s < Config::kOwnStrips; ++s) {
#pragma unroll
      for (float& sum : sums[s]) {
        settle(sum);
        if ((added >> s & 1) == 0)
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
  BsrParts<Config> parts_;
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
    Ring<Config::kStages>(shared.stage_barriers)
        .init(Config::kReleases, /*fills=*/Config::kCopies ? 1 + kWarpSize : 1);
    Ring<kTilesAhead>(shared.tile_barriers).init(kMultiplyingWarps + Config::kLoaders - 1);
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
    if (threadIdx.x < Config::kLoaders * kWarpSize)
      BsrProducer<Config>(maps, args, shared, stages).run();
  } else {
    take_registers<kMultiplyingRegisters>();
    BsrConsumer<Config>(maps, args, shared, stages).run();
  }
}

}  // namespace hew::kernels::hopper
