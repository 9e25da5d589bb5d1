#pragma once

#include "kernels/hopper/bsr_config.cuh"
#include "kernels/hopper/pipeline.cuh"
#include "kernels/hopper/tile_draw.cuh"

/// The loading side of bsr_product.cuh, and what it shares with the multiplying one.
namespace hew::kernels::hopper {

inline constexpr int kWarpSize = 32;
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
  int last_parts[2];  // whether a warpgroup's part was the last one
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

/// A warp that loads what the consumers need: each of Config::kLoaders every so many'th step. The
/// first draws tiles and tells all others.
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
        own_(threadIdx.x / kWarpSize),
        lane_(static_cast<int>(threadIdx.x) % kWarpSize) {}

  __device__ void run() {
    const TileDraw draw{args_.counters};
    const int count = args_.order.count();
    int index = static_cast<int>(blockIdx.x);
    for (;;) {
      int next = 0;  // drawn now, needed a tile later
      if (leads() && lane_ == 0 && index < count)
        next = draw.next();
      const Work work = leads() ? announce(index, count) : receive();
      if (work.steps < 0)
        break;
      load(work);
      index = __shfl_sync(~0U, next, 0);
    }
    if (leads() && lane_ == 0)
      draw.finish();
  }

 private:
  using Position = typename Ring<Config::kStages>::Position;
  static constexpr int kMembers = Config::kMembers;

  // What loaders have to know of a tile.
  struct Work {
    int first_step;
    int steps;  // −1: there are no more tiles
    int first_token;
  };

  __device__ bool leads() const { return Config::kLoaders == 1 || own_ == 0; }

  // Tile `index`, to all others.
  __device__ Work announce(int index, int count) {
    Tile<Config> tile{};
    tile.stages = -1;
    int steps = -1;
    if (index < count) {
      const TileOrder::Place at = args_.order.at(index);
      tile.first_step = __ldg(args_.groups.begin + at.group);
      steps = __ldg(args_.groups.begin + at.group + 1) - tile.first_step;
      tile.first_token = at.token_tile * Config::kTokens;
      tile.stages = steps * Config::kStagesPerBlock;
#pragma unroll
      for (int m = 0; m < kMembers; ++m)
        tile.rows[m] = __ldg(args_.groups.rows + at.group * kMembers + m);
      if (Config::kCuts && args_.groups.parts != nullptr)
        tile.part = __ldg(args_.groups.parts + at.group);
    }
    tiles_.acquire(sent_);
    if (lane_ == 0) {
      shared_.tiles[sent_.stage()] = tile;
      arrive(tiles_.full_barrier(sent_));
    }
    ++sent_.count;
    return {tile.first_step, steps, tile.first_token};
  }

  __device__ Work receive() {
    tiles_.await(sent_);
    const Tile<Config>& tile = shared_.tiles[sent_.stage()];
    const Work work{of_first_lane([&] { return tile.first_step; }),
                    of_first_lane([&] { return tile.stages; }),
                    of_first_lane([&] { return tile.first_token; })};
    if (lane_ == 0)
      tiles_.release(sent_);
    ++sent_.count;
    return work;
  }

  // This warp's stages of a tile.
  __device__ void load(const Work& work) {
    if constexpr (Config::kPacks) {
      packed_ = args_.packed_in == nullptr
                    ? nullptr
                    : args_.packed_in + std::int64_t{work.first_token / Config::kTokens} *
                                            args_.columns * Config::kInputBytes;
    }
    constexpr int kStages = Config::kStagesPerBlock;
    static_assert(Config::kLoaders == 1 || kStages == 1, "a step is a stage");
    for (int first = 0; first < work.steps; first += kWarpSize) {
      const int n = min(kWarpSize, work.steps - first);
      BsrStep<kMembers> mine;
      if (lane_ < n)
        mine.load(args_.groups, work.first_step + first + lane_);
      for (int j = static_cast<int>((own_ - at_.count) % Config::kLoaders); j < n;
           j += Config::kLoaders) {
        const BsrStep<kMembers> step = mine.of(j);
        for (int part = 0; part < kStages; ++part) {
          const Position at{at_.count + static_cast<std::uint32_t>(j * kStages + part)};
          ring_.acquire(at);
          if (elected())
            load_stage(step, part * Config::kDepth, work.first_token, at);
        }
      }
      at_.count += static_cast<std::uint32_t>(n * kStages);
    }
  }

  // One stage, from this depth of the blocks on.
  __device__ void load_stage(const BsrStep<kMembers>& step, int depth, int first_token,
                             Position at) {
    const std::uint32_t full = ring_.full_barrier(at);
    const std::uint32_t input = stages_ + at.stage() * Config::kStageBytes;
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
      shared_.live_strips[at.stage()] = live;
    arrive_and_expect(full, bytes);
    if (Config::kPacks && packed_ != nullptr) {
      load_run(input, packed_ + std::int64_t{step.column} * Config::kInputBytes,
               Config::kInputBytes, full);
    } else {
      // Other tiles of these tokens want it as well.
      load_box(input, &maps_.in, full, step.column * Config::kBlock + depth, first_token,
               drop_last());
    }
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
      const std::uint32_t box = to + p * Config::kPartBytes;
      if constexpr (Config::kPacks) {
        if (args_.packed_values != nullptr) {
          load_packed(position, box, full);
          continue;
        }
      }
      // Beside a live block a dead one reads as zeros: from behind the values.
      const int row = (position < 0 ? args_.nnzb : position) * Config::kBlock;
      const int feature = (strip * Config::kStrip + p * Config::kBox) % Config::kBlock;
      if constexpr (Config::kTransposed)
        load_box(box, &maps_.values, full, feature, row + depth);
      else
        load_box(box, &maps_.values, full, depth, row + feature);
    }
  }

  // A block that is a part of its own; zeros for a dead one.
  __device__ void load_packed(int position, std::uint32_t to, std::uint32_t full) {
    if (position < 0) {
      load_box(to, &maps_.zeros, full, /*x=*/0, /*y=*/1);
    } else {
      load_run(to, args_.packed_values + std::int64_t{position} * Config::kPartBytes,
               Config::kPartBytes, full);
    }
  }

  const BsrProductMaps& maps_;
  const typename Config::Args& args_;
  BsrShared<Config>& shared_;
  Ring<Config::kStages> ring_;
  Ring<kTilesAhead> tiles_;
  std::uint32_t stages_;
  std::uint32_t own_;
  int lane_;
  const std::uint8_t* packed_ = nullptr;  // of the tile's tokens
  Position at_;                           // all loaders' alike
  typename Ring<kTilesAhead>::Position sent_;
};

}  // namespace hew::kernels::hopper
