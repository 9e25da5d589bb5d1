#pragma once

#include "kernels/hopper/bsr_config.cuh"

namespace hew::kernels::hopper {

/// A row that is cut: tiles of its parts are made like others, by any thread blocks, but their sums
/// go to device memory. Who is the last to put them there, one of a tile's warpgroups for itself,
/// adds them all, in the order of the parts, and goes on as if it had made the whole row.
template <class Config>
class BsrParts {
 public:
  using Sums = float[Config::kOwnStrips][Config::kSums];

  static constexpr int kThreads = 128;
  static constexpr int kPacks = Config::kOwnStrips * Config::kSums / 4;  // of a thread
  static constexpr int kElements = 4 * kPacks * kThreads;                // sums of a warpgroup

  /// `last` is a word of shared memory of this warpgroup, the `group`th of its thread block.
  __device__ BsrParts(int& last, int group) : last_(last), group_(group) {}

  /// True, with the sums of the whole row, if all parts have been made.
  __device__ bool complete(Sums& sums, const OwnTile<Config>& tile,
                           const typename Config::Args& args) {
    if (tile.features[0][0] < 0)
      return false;
    const RowPart part = tile.part;
    const std::int64_t row =
        (std::int64_t{part.row()} * args.order.token_tiles + tile.first_token / Config::kTokens) *
            Config::kConsumingWarpgroups +
        (Config::kTogether ? group_ : 0);
    auto* const all =
        reinterpret_cast<float4*>(args.part_sums + row * args.groups.most_parts * kElements) +
        threadIdx.x % kThreads;
    put(sums, all + std::int64_t{part.number()} * kPacks * kThreads);
    if (!is_last(args.part_counts + row, part.count()))
      return false;
    add(sums, all, part.count());
    return true;
  }

 private:
  __device__ static void put(const Sums& sums, float4* to) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      const float* const s = sums[i / (Config::kSums / 4)] + i % (Config::kSums / 4) * 4;
      __stcg(to + i * kThreads, make_float4(s[0], s[1], s[2], s[3]));
    }
  }

  __device__ bool is_last(int* counter, int count) {
    __threadfence();
    named_barrier(1 + group_, kThreads);
    if (threadIdx.x % kThreads == 0)
      last_ = atomicAdd(counter, 1) == count - 1 ? 1 : 0;
    named_barrier(1 + group_, kThreads);
    __threadfence();
    return last_ != 0;
  }

  __device__ static void add(Sums& sums, const float4* from, int count) {
#pragma unroll
    for (auto& strip : sums) {
#pragma unroll
      for (float& sum : strip) sum = 0.0F;
    }
#pragma unroll 1
    for (int part = 0; part < count; ++part, from += kPacks * kThreads) {
#pragma unroll
      for (int i = 0; i < kPacks; ++i) {
        const float4 some = __ldcg(from + i * kThreads);
        float* const s = sums[i / (Config::kSums / 4)] + i % (Config::kSums / 4) * 4;
        s[0] += some.x;
        s[1] += some.y;
        s[2] += some.z;
        s[3] += some.w;
      }
    }
  }

  int& last_;
  int group_;
};

}  // namespace hew::kernels::hopper
