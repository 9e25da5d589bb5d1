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
template <class Config>
struct BsrStep {
  static constexpr int kMembers = Config::kMembers;

  int column = 0;
  int positions[kMembers] = {};
  int live = 0;    // bit m: member m has a block there
  int dead = 0;    // bit m: member m has none, but another one of its strip has
  int strips = 0;  // bit s: a member of strip s has a block

  __device__ void load(const RowGroups& groups, int step) {
    column = __ldg(groups.columns + step);
    if constexpr (kMembers % 4 == 0) {
#pragma unroll
      for (int m = 0; m < kMembers; m += 4) {
        const auto* from = reinterpret_cast<const int4*>(groups.positions + step * kMembers + m);
        const int4 p = __ldg(from);
        positions[m] = p.x;
        positions[m + 1] = p.y;
        positions[m + 2] = p.z;
        positions[m + 3] = p.w;
      }
    } else if constexpr (kMembers == 2) {
      const int2 p = __ldg(reinterpret_cast<const int2*>(groups.positions) + step);
      positions[0] = p.x;
      positions[1] = p.y;
    } else {
      positions[0] = __ldg(groups.positions + step);
    }
#pragma unroll
    for (int m = 0; m < kMembers; ++m) live |= positions[m] >= 0 ? 1 << m : 0;
#pragma unroll
    for (int s = 0; s < Config::kStrips; ++s) {
      int members = 0;
#pragma unroll
      for (int p = 0; p < Config::kParts; ++p) members |= 1 << Config::member(s, p);
      if ((live & members) != 0) {
        strips |= 1 << s;
        dead |= members & ~live;
      }
    }
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
  using Step = BsrStep<Config>;

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
      for (int m = 0; m < Config::kMembers; ++m)
        tile.rows[m] = __ldg(args_.groups.rows + at.group * Config::kMembers + m);
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
      Step mine;
      if (lane_ < n)
        mine.load(args_.groups, work.first_step + first + lane_);
      for (int j = static_cast<int>((own_ - at_.count) % Config::kLoaders); j < n;
           j += Config::kLoaders) {
        for (int part = 0; part < kStages; ++part) {
          const Position at{at_.count + static_cast<std::uint32_t>(j * kStages + part)};
          ring_.acquire(at);
          load_stage(mine, j, work.first_step + first + j, part * Config::kDepth, work.first_token,
                     at);
        }
      }
      at_.count += static_cast<std::uint32_t>(n * kStages);
    }
  }

  // One stage by the whole warp: step `number`, which lane `of` holds, from this depth of the
  // blocks on.
  __device__ void load_stage(const Step& mine, int of, int number, int depth, int first_token,
                             Position at) {
    const std::uint32_t full = ring_.full_barrier(at);
    const std::uint32_t input = stages_ + at.stage() * Config::kStageBytes;
    const std::uint32_t parts = input + Config::kInputBytes;
    const int column = __shfl_sync(~0U, mine.column, of);
    const int live = __shfl_sync(~0U, mine.live, of);
    const int strips = __shfl_sync(~0U, mine.strips, of);
    if constexpr (Config::kParts > 1)
      clear(__shfl_sync(~0U, mine.dead, of), live, parts, at);
    int positions[Config::kMembers] = {};
    if constexpr (Config::kParts == 1) {
#pragma unroll
      for (int m = 0; m < Config::kMembers; ++m)
        positions[m] = __shfl_sync(~0U, mine.positions[m], of);
    }
    if (elected()) {
      if constexpr (Config::kSkips)
        shared_.live_strips[at.stage()] = strips;
      const int blocks = Config::kCopies ? 0 : __popc(live);
      arrive_and_expect(full, Config::kBoxBytes + blocks * Config::kMemberBytes);
      load_input(column, depth, first_token, input, full);
      if constexpr (Config::kParts == 1)
        load_blocks(positions, depth, parts, full);
      else if constexpr (!Config::kCopies)
        load_blocks(live, args_.groups.positions + number * Config::kMembers, depth, parts, full);
    }
    if constexpr (Config::kCopies) {
      copy_input(column, first_token, input);
      copy_blocks(mine, of, live, parts);
      arrive_when_copied(full);
    }
  }

  // Dead blocks beside live ones of their strips are multiplied as zeros. All lanes write them,
  // where the stage does not hold them since an earlier turn: TMA would take as long as for live
  // blocks.
  __device__ void clear(int dead, int live, std::uint32_t parts, Position at) {
    constexpr int kPieces = 16 * kWarpSize;
    static_assert(Config::kStages / Config::kLoaders * Config::kMembers <= 32, "a bit for each");
    const int shift = static_cast<int>(at.stage() / Config::kLoaders) * Config::kMembers;
    const auto bits = [shift](int members) { return static_cast<std::uint32_t>(members) << shift; };
    std::uint32_t uncleared = (bits(dead) & ~cleared_) >> shift;
    cleared_ = (cleared_ & ~bits(live)) | bits(dead);
    if (uncleared == 0)
      return;
    for (; uncleared != 0; uncleared &= uncleared - 1) {
      const std::uint32_t part = parts + (__ffs(uncleared) - 1) * Config::kPartBytes + 16 * lane_;
#pragma unroll
      for (int i = 0; i < Config::kPartBytes; i += kPieces) store_zeros(part + i);
    }
    fence_for_async();
    __syncwarp();
  }

  // What this warp copies, a piece of 16 bytes by each lane at a time, lies as TMA would put it.
  static constexpr int kRowPieces = Config::kRowBytes / 16;
  static constexpr int kRowsAtOnce = kWarpSize / kRowPieces;
  static constexpr int kBytesAtOnce = 16 * kWarpSize;

  // Of this lane's first piece: within 128 bytes the swizzle exchanges it. All others lie as far
  // behind it as their rows do.
  __device__ std::uint32_t own_place() const {
    const int place = lane_ ^ lane_ / 8 % kRowPieces;
    return static_cast<std::uint32_t>(16 * place);
  }

  // The input's rows that TMA does not take.

  __device__ void copy_input(int column, int first_token, std::uint32_t to) {
    const int row = first_token + Config::kBoxTokens + lane_ / kRowPieces;
    const int byte = column * Config::kRowBytes + lane_ % kRowPieces * 16;
    const std::uint8_t* from = args_.in + row * args_.row_bytes + byte;
    const std::int64_t next = kRowsAtOnce * args_.row_bytes;
    to += Config::kBoxBytes + own_place();
    constexpr int kCopied = (Config::kTokens - Config::kBoxTokens) / kRowsAtOnce;
    if (first_token + Config::kTokens <= args_.tokens &&
        (column + 1) * Config::kRowBytes <= args_.row_bytes) {
#pragma unroll
      for (int i = 0; i < kCopied; ++i, from += next) copy_piece(to + i * kBytesAtOnce, from);
      return;
    }
#pragma unroll 1
    for (int i = 0; i < kCopied; ++i, from += next) {
      const bool inside = row + i * kRowsAtOnce < args_.tokens && byte < args_.row_bytes;
      copy_piece(to + i * kBytesAtOnce, inside ? from : args_.in, inside);
    }
  }

  // Live blocks, each a part of a strip.
  __device__ void copy_blocks(const Step& mine, int of, int live, std::uint32_t parts) {
    const std::uint8_t* const values = args_.values + 16 * lane_;
    parts += own_place();
#pragma unroll
    for (int m = 0; m < Config::kMembers; ++m) {
      if ((live >> m & 1) != 0) {
        const int position = __shfl_sync(~0U, mine.positions[m], of);
        const std::uint8_t* const from = values + std::int64_t{position} * Config::kPartBytes;
#pragma unroll
        for (int i = 0; i < Config::kPartBytes; i += kBytesAtOnce)
          copy_piece(parts + m * Config::kPartBytes + i, from + i);
      }
    }
  }

  __device__ void load_input(int column, int depth, int first_token, std::uint32_t to,
                             std::uint32_t full) {
    if (Config::kPacks && packed_ != nullptr) {
      load_run(to, packed_ + std::int64_t{column} * Config::kInputBytes, Config::kInputBytes, full);
    } else {
      // Other tiles of these tokens want it as well.
      load_box(to, &maps_.in, full, column * Config::kBlock + depth, first_token, drop_last());
    }
  }

  // Blocks of one or more strips each.
  __device__ void load_blocks(const int (&positions)[Config::kMembers], int depth,
                              std::uint32_t strips, std::uint32_t full) {
#pragma unroll
    for (int s = 0; s < Config::kStrips; ++s) {
      const int position = positions[Config::member(s, 0)];
      if (!Config::kSkips || position >= 0) {
        load_block(strips + s * Config::kStripBytes, position, s * Config::kStrip % Config::kBlock,
                   depth, full);
      }
    }
  }

  // Live blocks, each a part of a strip.
  __device__ void load_blocks(int live, const std::int32_t* positions, int depth,
                              std::uint32_t parts, std::uint32_t full) {
    const bool packed = Config::kPacks && args_.packed_values != nullptr;
#pragma unroll 1
    for (; live != 0; live &= live - 1) {
      const int member = __ffs(live) - 1;
      const int position = __ldg(positions + member);
      const std::uint32_t to = parts + member * Config::kPartBytes;
      if (packed) {
        load_run(to, args_.packed_values + std::int64_t{position} * Config::kPartBytes,
                 Config::kPartBytes, full);
      } else {
        load_block(to, position, /*feature=*/0, depth, full);
      }
    }
  }

  // Of a block, from this feature and depth on.
  __device__ void load_block(std::uint32_t to, int position, int feature, int depth,
                             std::uint32_t full) {
    const int row = position * Config::kBlock;
    if constexpr (Config::kTransposed)
      load_box(to, &maps_.values, full, feature, row + depth);
    else
      load_box(to, &maps_.values, full, depth, row + feature);
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
  std::uint32_t cleared_ = 0;             // kMembers bits a stage of this warp: what holds zeros
  typename Ring<kTilesAhead>::Position sent_;
};

}  // namespace hew::kernels::hopper
