#pragma once

#include "kernels/hopper/mlp_config.cuh"

/// What fills shared memory for the fused MLP, see bsr_mlp.cuh.
namespace hew::kernels::hopper {

/// One thread for each warpgroup that multiplies: loads what its steps need, of boxes of W this
/// thread block's share, for all of the cluster.
template <class Config>
class MlpBlockLoader {
 public:
  __device__ MlpBlockLoader(const MlpMaps& maps, const MlpArgs& args, MlpShared<Config>& shared,
                            std::uint32_t stages, int group)
      : maps_(maps),
        args_(args),
        ops_(shared.ops[group]),
        ring_(shared.stage_barriers[group]),
        stages_(stages),
        group_(group),
        rank_(cluster_rank()) {}

  __device__ void run() {
    const auto* steps = reinterpret_cast<const int4*>(args_.steps);
    const int begin = args_.begin[group_];
    const int end = args_.begin[group_ + 1];
    int4 next = __ldg(steps + begin);
    for (int tile = static_cast<int>(blockIdx.x); tile < args_.tiles;
         tile += static_cast<int>(gridDim.x)) {
      for (int i = begin; i < end; ++i, ++at_.count) {
        const int4 step = next;
        next = __ldg(steps + (i + 1 < end ? i + 1 : begin));
        ring_.acquire(at_);
        load(step);
      }
    }
  }

 private:
  __device__ void load(const int4& step) {
    const MlpOp op{static_cast<std::uint32_t>(step.x)};
    const std::uint32_t full = ring_.full_barrier(at_);
    ops_[at_.stage()] = make_uint2(op.bits, static_cast<std::uint32_t>(step.y));
    if (!op.has_block())
      return arrive(full);
    arrive_and_expect(full, Config::kBoxBytes);
    const CUtensorMap* map = op.kind() == MlpOp::kUp ? &maps_.up : &maps_.down;
    const std::uint32_t to =
        stages_ + at_.stage() * Config::kStageBytes + rank_ * Config::kShareBytes;
    load_box_to(kEverywhere, to, map, full, op.right() ? kMlpStrip : 0, row_of(step));
  }

  // The first row of the share: blocks of 32 have a share each.
  __device__ int row_of(const int4& step) const {
    if constexpr (Config::kDepth == Config::kShareRows)
      return rank_ == 0 ? step.z : step.w;
    return step.z + static_cast<int>(rank_) * Config::kShareRows;
  }

  static constexpr std::uint16_t kEverywhere = (1 << kMlpCluster) - 1;

  const MlpMaps& maps_;
  const MlpArgs& args_;
  uint2 (&ops_)[Config::kStages];
  Ring<Config::kStages> ring_;
  std::uint32_t stages_;
  int group_;
  std::uint32_t rank_;
  typename Ring<Config::kStages>::Position at_;
};

/// One thread.
template <class Config>
__device__ void load_mlp_input(const MlpMaps& maps, const MlpArgs& args, const Ring<1>& ring,
                               std::uint32_t to) {
  Ring<1>::Position at;
  for (int tile = static_cast<int>(blockIdx.x); tile < args.tiles;
       tile += static_cast<int>(gridDim.x), ++at.count) {
    ring.acquire(at);
    const std::uint32_t full = ring.full_barrier(at);
    arrive_and_expect(full, static_cast<std::uint32_t>(args.in_strips * Config::kPieceBytes));
    for (int s = 0; s < args.in_strips; ++s) {
      load_box(to + static_cast<std::uint32_t>(s * Config::kPieceBytes), &maps.in, full,
               s * kMlpStrip, tile * Config::kTokens);
    }
  }
}

}  // namespace hew::kernels::hopper
