#pragma once

#include "kernels/activation_math.cuh"
#include "kernels/hopper/bsr_output_place.cuh"
#include "kernels/hopper/mlp_config.cuh"
#include "kernels/hopper/wgmma.cuh"

/// What multiplies in the fused MLP, see bsr_mlp.cuh.
namespace hew::kernels::hopper {

inline constexpr int kMlpWarps = 4 * kMlpWarpgroups;  // that multiply

/// sums (+)= a box of W · some columns of tokens, both in shared memory.
template <class Config>
__device__ inline void multiply_box(float (&sums)[Config::kSums], std::uint32_t box,
                                    std::uint32_t tokens, bool add) {
  using Multiply = WgmmaBf16<Config::kTokens, Major::kDepth, Major::kDepth>;
  constexpr std::uint64_t kNext = 2;  // a wgmma takes 32 bytes of the depth, in units of 16
  const std::uint64_t a =
      descriptor<Config::kBlockSwizzle>(box, Config::kShareBytes, 8 * 2 * Config::kDepth);
  const std::uint64_t b =
      descriptor<Swizzle::k128>(tokens, Config::kPieceBytes, 8 * Config::kRowBytes);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < Config::kDepth / Multiply::kDepth; ++k)
    Multiply::multiply(sums, a + k * kNext, b + k * kNext, add || k > 0);
  wgmma_commit();
}

/// One of the warpgroups that multiply: goes through its steps. Its warps let go of stages and
/// slots one by one.
template <class Config>
class MlpConsumer {
 public:
  __device__ MlpConsumer(const MlpMaps& maps, const MlpArgs& args, MlpShared<Config>& shared,
                         std::uint32_t memory)
      : maps_(maps),
        args_(args),
        group_(static_cast<int>(threadIdx.x) / 128 - 1),
        warp_(static_cast<int>(threadIdx.x) / 32 % 4),
        lane_(static_cast<int>(threadIdx.x) % 32),
        ops_(shared.ops[group_]),
        ring_(shared.stage_barriers[group_]),
        peer_empty_(address_in(cluster_rank() ^ 1, ring_.empty)),
        slots_(shared.slot_barriers),
        inputs_(shared.input_barriers),
        memory_(memory),
        place_(warp_, lane_) {}

  __device__ void run() {
    float sums[Config::kOwn][Config::kSums];
    float hidden[Config::kSums];
    for (int tile = static_cast<int>(blockIdx.x); tile < args_.tiles;
         tile += static_cast<int>(gridDim.x)) {
      await(inputs_.full_barrier(input_), input_.turn());
      for (;;) {
        const Given given = receive();
        if (given.op.kind() == MlpOp::kEnd)
          break;
        step(sums, hidden, given, tile * Config::kTokens);
      }
      end();
      made_before_ += static_cast<std::uint32_t>(args_.hidden_strips);
      ++input_.count;
    }
    if (leads())
      wait_stores<0>();
  }

 private:
  using Stage = typename Ring<Config::kStages>::Position;
  using Slot = typename Ring<Config::kSlots>::Position;
  using Sums = float[Config::kSums];
  using Place = BsrOutputPlace<Config>;
  using Precision = __nv_bfloat16;  // what activations are accurate to

  __device__ bool leads() const { return threadIdx.x % 128 == 0; }
  __device__ std::uint32_t stage_address() const {
    return memory_ + Config::kStagesAt +
           (static_cast<std::uint32_t>(group_) * Config::kStages + at_.stage()) *
               Config::kStageBytes;
  }
  __device__ std::uint32_t slot_address(Slot at) const {
    return memory_ + Config::kInputBytes + at.stage() * Config::kPieceBytes;
  }

  // A warp that would have to wait first lets go of what it holds: what it waits for may wait for
  // that.
  __device__ void await(std::uint32_t barrier, std::uint32_t parity) {
    if (__all_sync(~0U, phase_ended_before(barrier, parity)))
      return;
    drain();
    wait(barrier, parity);
  }

  // The stage at hand, and perhaps the slot, whose batch is in flight. That before it has ended.
  __device__ void hold(bool slot) {
    wgmma_wait<1>();
    let_go();
    held_ = at_;
    held_slot_ = slot ? static_cast<int>(read_.stage()) : -1;
    holds_ = true;
  }
  // By one lane of a warp: both thread blocks load into the stage.
  __device__ void release_stage(Stage at) const {
    static_assert(kMlpCluster == 2);
    ring_.release(at);
    arrive_in_cluster(peer_empty_ + 8 * at.stage());
  }
  __device__ void let_go() {
    if (holds_ && lane_ == 0) {
      release_stage(held_);
      if (held_slot_ >= 0)
        arrive(slots_.empty + 8 * static_cast<std::uint32_t>(held_slot_));
    }
    holds_ = false;
  }
  __device__ void drain() {
    wgmma_wait<0>();
    let_go();
  }

  // What the next stage is for.
  struct Given {
    MlpOp op;
    std::uint32_t strip;
  };
  __device__ Given receive() {
    await(ring_.full_barrier(at_), at_.turn());
    const uint2& given = ops_[at_.stage()];
    const Given out{{of_first_lane([&] { return given.x; })},
                    of_first_lane([&] { return given.y; })};
    pass(out.op.passes());
    frees_input_ = out.op.frees_input();
    return out;
  }

  __device__ void step(float (&sums)[Config::kOwn][Config::kSums], Sums& hidden, const Given& given,
                       int first_token) {
    const MlpOp::Kind kind = given.op.kind();
    if (kind == MlpOp::kDown)
      read_strip(sums, given.op);
    else if (kind == MlpOp::kWrite)
      write(sums, given.op, first_token);
    else
      make_strip(hidden, given.op, given.strip);
    ++at_.count;
  }

  // Lets go of hidden strips that this warpgroup does not read. It has to wait for them all the
  // same: else it could take an old phase of their slots for a new one.
  __device__ void pass(int strips) {
    for (; strips > 0; --strips, ++read_.count) {
      await(slots_.full_barrier(read_), read_.turn());
      if (lane_ == 0)
        slots_.release(read_);
    }
  }

  __device__ void read_strip(float (&sums)[Config::kOwn][Config::kSums], MlpOp op) {
    if (op.first())
      await(slots_.full_barrier(read_), read_.turn());
    const std::uint32_t tokens =
        slot_address(read_) + static_cast<std::uint32_t>(op.source() * 2 * Config::kDepth);
    const int own = op.own();
#pragma unroll
    for (int s = 0; s < Config::kOwn; ++s) {
      if (s == own)
        multiply_box<Config>(sums[s], stage_address(), tokens, (started_ >> s & 1) != 0);
    }
    started_ |= 1U << own;
    hold(op.last());
    read_.count += op.last() ? 1 : 0;
  }

  __device__ void make_strip(Sums& hidden, MlpOp op, std::uint32_t strip) {
    const bool live = op.kind() == MlpOp::kUp;
    if (op.first())
      load_bias(bias_, args_.up_bias, static_cast<int>(strip >> 16), args_.hidden);
    if (live) {
      constexpr int kPerStrip = kMlpStrip / Config::kDepth;
      const int source = op.source();
      const std::uint32_t tokens =
          memory_ + static_cast<std::uint32_t>(source / kPerStrip * Config::kPieceBytes +
                                               source % kPerStrip * 2 * Config::kDepth);
      multiply_box<Config>(hidden, stage_address(), tokens, !op.first());
    } else {
      drain();  // hold() lets one batch stay in flight, and this step has none
    }
    hold(/*slot=*/false);
    if (!op.last())
      return;
    drain();
    if (frees_input_ && lane_ == 0)
      inputs_.release(input_);
    const Slot to{made_before_ + (strip & 0xFFFF)};
    slots_.acquire(to);
    put_activated(hidden, live, slot_address(to));
    fence_for_async();
    __syncwarp();  // all lanes have written
    if (lane_ == 0)
      arrive(slots_.full_barrier(to));
  }

  // Of the two features whose sums a thread has.
  __device__ void load_bias(float (&to)[2], const __nv_bfloat16* bias, int strip, int features) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int feature = strip * kMlpStrip + warp_ * 16 + lane_ / 4 + 8 * h;
      to[h] = bias != nullptr && feature < features ? widen(bias[feature]) : 0.0F;
    }
  }

  __device__ void put_activated(const Sums& hidden, bool live, std::uint32_t slot) const {
    switch (args_.activation) {
      case Activation::kNone:
        return put<Activation::kNone>(hidden, live, bias_, {0, Config::kTokens}, slot);
      case Activation::kRelu:
        return put<Activation::kRelu>(hidden, live, bias_, {0, Config::kTokens}, slot);
      case Activation::kGelu:
        return put<Activation::kGelu>(hidden, live, bias_, {0, Config::kTokens}, slot);
      case Activation::kGeluTanh:
        return put<Activation::kGeluTanh>(hidden, live, bias_, {0, Config::kTokens}, slot);
      case Activation::kSilu:
        return put<Activation::kSilu>(hidden, live, bias_, {0, Config::kTokens}, slot);
    }
  }

  struct Range {
    int begin;
    int end;
  };

  // This warp's 16 features of a range of tokens, act(sums + bias), to [tokens, 64]. Without `any`
  // sums are zero.
  template <Activation kind>
  __device__ void put(const Sums& sums, bool any, const float (&bias)[2], Range tokens,
                      std::uint32_t to) const {
#pragma unroll
    for (int t = tokens.begin; t < tokens.end; t += Place::kTokens) {
      float values[Place::kValues];
#pragma unroll
      for (int k = 0; k < Place::kValues; ++k) {
        const float sum = settled(sums[t / 2 + k]);
        values[k] = activated<kind, Precision>((any ? sum : 0.0F) + bias[k / 2 % 2]);
      }
      place_.put(to, t - tokens.begin, values);
    }
  }

  // Some tokens of an own strip, through the stage, which TMA reads for a while longer.
  __device__ void write(const float (&sums)[Config::kOwn][Config::kSums], MlpOp op,
                        int first_token) {
    drain();
    const int own = op.own();
    const int strip = args_.strips[group_][own];
    const std::uint32_t stage = stage_address();
    float bias[2];
    load_bias(bias, args_.down_bias, strip, args_.width);
#pragma unroll
    for (int s = 0; s < Config::kOwn; ++s) {
      if (s == own)
        put_output(sums[s], (started_ >> s & 1) != 0, bias, op.source(), stage);
    }
    fence_for_async();
    named_barrier(1 + group_, 128);
    if (leads()) {
      store(stage, strip * kMlpStrip, first_token, op.source());
      wait_stores_read<1>();
      if (writes_)
        release_stage(written_);
    } else if (lane_ == 0) {
      release_stage(at_);
    }
    written_ = at_;
    writes_ = true;
  }

  __device__ void put_output(const Sums& sums, bool any, const float (&bias)[2], int write,
                             std::uint32_t stage) const {
#pragma unroll
    for (int w = 0; w < Config::kWrites; ++w) {
      const int begin = w * Config::kWriteTokens;
      const int end = min(begin + Config::kWriteTokens, Config::kTokens);
      if (w == write)
        put<Activation::kNone>(sums, any, bias, {begin, end}, stage);
    }
  }

  __device__ void store(std::uint32_t stage, int feature, int first_token, int write) const {
    const int begin = write * Config::kWriteTokens;
    const int end = min(begin + Config::kWriteTokens, Config::kTokens);
    for (int t = begin; t < end; t += Config::kBoxTokens) {
      store_box(&maps_.out, stage + static_cast<std::uint32_t>((t - begin) * Config::kRowBytes),
                feature, first_token + t);
    }
    commit_stores();
  }

  __device__ void end() {
    drain();
    if (lane_ == 0) {
      if (frees_input_)
        inputs_.release(input_);
      if (leads() && writes_) {
        wait_stores_read<0>();
        release_stage(written_);
      }
      release_stage(at_);
    }
    ++at_.count;
    writes_ = false;
    started_ = 0;
  }

  const MlpMaps& maps_;
  const MlpArgs& args_;
  int group_;
  int warp_;
  int lane_;
  uint2 (&ops_)[Config::kStages];
  Ring<Config::kStages> ring_;
  std::uint32_t peer_empty_;  // this ring's barriers in the cluster's other thread block
  Ring<Config::kSlots> slots_;
  Ring<1> inputs_;
  std::uint32_t memory_;
  Place place_;
  Stage at_;
  Ring<1>::Position input_;
  bool frees_input_ = false;       // the step at hand
  Slot read_;                      // the next hidden strip to read
  std::uint32_t made_before_ = 0;  // hidden strips of the tiles before
  Stage held_;
  int held_slot_ = -1;
  bool holds_ = false;
  Stage written_;  // by the leading thread: what TMA may still read
  bool writes_ = false;
  std::uint32_t started_ = 0;  // bit s: own strip s has a sum
  float bias_[2];              // of the hidden strip that is being made
};

}  // namespace hew::kernels::hopper
