#pragma once

#include "kernels/activation_math.cuh"
#include "kernels/hopper/bsr_output_place.cuh"

namespace hew::kernels::hopper {

/// One warpgroup's output: from sums in registers, features × tokens as wgmma leaves them, to
/// rows of tokens in device memory, through shared memory that TMA stores from. A thread holds
/// features f and f + 8 of each strip, for pairs of tokens. The input gradient's goes back through
/// an activation there: what that was given is loaded into a buffer before the output takes its
/// place.
template <class Config>
class BsrEpilogue {
 public:
  using Args = typename Config::Args;
  using Sums = float[Config::kOwnStrips][Config::kSums];

  /// `buffers` are this warpgroup's, and so are `loaded`, a barrier for each; `id` is that of the
  /// barrier of its threads.
  __device__ BsrEpilogue(std::uint32_t buffers, std::uint32_t loaded, int id)
      : buffers_(buffers),
        loaded_(loaded),
        id_(id),
        warp_(static_cast<int>(threadIdx.x) / 32 % 4),
        place_(warp_, static_cast<int>(threadIdx.x) % 32) {}

  /// Loads this thread's elements of the bias.
  __device__ void prepare(const OwnTile<Config>& tile, const Args& args) {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int feature = own_feature(tile.features[s], h);
        const bool there = args.bias != nullptr && feature >= 0 && feature < args.width;
        bias_[s][h] = there ? widen(args.bias[feature]) : 0.0F;
      }
    }
  }

  /// out ← act(sums + bias), pre ← sums + bias where it is kept
  __device__ void write(const Sums& sums, const OwnTile<Config>& tile, const BsrProductMaps& maps,
                        const Args& args) {
    if (args.keep_pre)
      write_as<Activation::kNone>(sums, tile, &maps.pre);
    switch (args.activation) {
      case Activation::kNone:
        return write_as<Activation::kNone>(sums, tile, &maps.out);
      case Activation::kRelu:
        return write_as<Activation::kRelu>(sums, tile, &maps.out);
      case Activation::kGelu:
        return write_as<Activation::kGelu>(sums, tile, &maps.out);
      case Activation::kGeluTanh:
        return write_as<Activation::kGeluTanh>(sums, tile, &maps.out);
      case Activation::kSilu:
        return write_as<Activation::kSilu>(sums, tile, &maps.out);
    }
  }

  /// Of the input gradient: begins to load what the activation was given, into all buffers.
  __device__ void prefetch(const OwnTile<Config>& tile, const BsrProductMaps& maps,
                           const Args& args) {
    if (args.activation == Activation::kNone || !leads())
      return;
    wait_stores_read<0>();
#pragma unroll
    for (int fill = 0; fill < Config::kBuffers; ++fill) {
      load(tile, fill, used_ + static_cast<std::uint32_t>(fill), &maps.pre);
    }
  }

  /// out ← sums ⊙ act'(pre), and where they are wanted the sums of out's columns over the tile
  __device__ void write_gradient(const Sums& sums, const OwnTile<Config>& tile,
                                 const BsrProductMaps& maps, const Args& args) {
    switch (args.activation) {
      case Activation::kNone:
        return write_as<Activation::kNone>(sums, tile, &maps.out);
      case Activation::kRelu:
        return write_gradient_of<Activation::kRelu>(sums, tile, maps, args);
      case Activation::kGelu:
        return write_gradient_of<Activation::kGelu>(sums, tile, maps, args);
      case Activation::kGeluTanh:
        return write_gradient_of<Activation::kGeluTanh>(sums, tile, maps, args);
      case Activation::kSilu:
        return write_gradient_of<Activation::kSilu>(sums, tile, maps, args);
    }
  }

  /// Before the block ends.
  __device__ void finish() const {
    if (leads())
      wait_stores<0>();
  }

 private:
  using Place = BsrOutputPlace<Config>;
  // What activations are accurate to. A sum of products of tf32 is off by 2⁻¹¹, too.
  using Precision = __nv_bfloat16;

  static constexpr int kThreads = 128;
  static constexpr int kFillsOfStrip = Config::kTokens / Config::kBufferTokens;

  __device__ bool leads() const {
    return threadIdx.x % kThreads == 0;
  }
  __device__ std::uint32_t buffer_of(std::uint32_t use) const {
    return buffers_ + use % Config::kBuffers * static_cast<std::uint32_t>(Config::kBufferBytes);
  }
  __device__ std::uint32_t loaded_barrier(std::uint32_t use) const {
    return loaded_ + 8 * (use % Config::kBuffers);
  }
  // Which feature a strip's sums h = 0 and 1 of each pair belong to; −1: none.
  __device__ int own_feature(const int (&features)[Config::kParts], int h) const {
    const int part = warp_ * 16 / Config::kBox;
    int first = -1;
    // Not by index, which would put the tile into memory.
#pragma unroll
    for (int p = 0; p < Config::kParts; ++p) first = max(first, part == p ? features[p] : -1);
    const int within = warp_ * 16 % Config::kBox + static_cast<int>(threadIdx.x) % 32 / 4;
    return first < 0 ? -1 : first + within + 8 * h;
  }
  // The first feature of piece q of a buffer; −1: none.
  __device__ static int piece_feature(const int (&features)[Config::kParts], int q) {
    const int first = features[q * Config::kRow / Config::kBox];
    return first < 0 ? -1 : first + q * Config::kRow % Config::kBox;
  }

  template <Activation kind>
  __device__ void write_as(const Sums& sums, const OwnTile<Config>& tile, const CUtensorMap* map) {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
#pragma unroll
      for (int t = 0; t < Config::kTokens; t += Config::kBufferTokens) {
        if (leads())
          wait_stores_read<Config::kBuffers - 1>();
        named_barrier(id_, kThreads);
        const std::uint32_t buffer = buffer_of(used_);
#pragma unroll
        for (int i = 0; i < Config::kBufferTokens; i += Place::kTokens)
          fill<kind>(buffer, i, sums[s] + (t + i) / 2, bias_[s]);
        fence_for_async();
        named_barrier(id_, kThreads);
        if (leads())
          store(tile.features[s], tile.first_token + t, buffer, map);
        ++used_;
      }
    }
  }

  // Some tokens of this warp's 16 features.
  template <Activation kind>
  __device__ void fill(std::uint32_t buffer, int token, const float* sums,
                       const float (&bias)[2]) const {
    float values[Place::kValues];
#pragma unroll
    for (int k = 0; k < Place::kValues; ++k) {
      const float sum = Config::kGradient ? sums[k] : sums[k] + bias[k / 2 % 2];
      values[k] = activated<kind, Precision>(sum);
    }
    place_.put(buffer, token, values);
  }

  template <Activation kind>
  __device__ void write_gradient_of(const Sums& sums, const OwnTile<Config>& tile,
                                    const BsrProductMaps& maps, const Args& args) {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
      float totals[2] = {};
#pragma unroll
      for (int t = 0; t < kFillsOfStrip; ++t) {
        const std::uint32_t buffer = buffer_of(used_);
        wait(loaded_barrier(used_), used_ / Config::kBuffers & 1);
        refill<kind>(buffer, sums[s] + t * Config::kBufferTokens / 2, totals);
        fence_for_async();
        named_barrier(id_, kThreads);
        if (leads()) {
          store(tile.features[s], tile.first_token + t * Config::kBufferTokens, buffer, &maps.out);
          const int next = s * kFillsOfStrip + t + Config::kBuffers;
          if (next < Config::kFills) {
            wait_stores_read<0>();
            load(tile, next, used_ + Config::kBuffers, &maps.pre);
          }
        }
        ++used_;
      }
      if (args.sums != nullptr)
        write_totals(totals, tile, s, args);
    }
  }

  // By the leading thread: what belongs to the tile's buffer `fill` of the output.
  __device__ void load(const OwnTile<Config>& tile, int fill, std::uint32_t use,
                       const CUtensorMap* map) {
    const std::uint32_t barrier = loaded_barrier(use);
    const auto& features = tile.features[fill / kFillsOfStrip];
    const int token = tile.first_token + fill % kFillsOfStrip * Config::kBufferTokens;
    int bytes = 0;
#pragma unroll
    for (int q = 0; q < Config::kPieces; ++q)
      bytes += piece_feature(features, q) >= 0 ? Config::kPieceBytes : 0;
    arrive_and_expect(barrier, static_cast<std::uint32_t>(bytes));
#pragma unroll
    for (int q = 0; q < Config::kPieces; ++q) {
      if (piece_feature(features, q) >= 0) {
        load_box(buffer_of(use) + static_cast<std::uint32_t>(q * Config::kPieceBytes), map, barrier,
                 piece_feature(features, q), token);
      }
    }
  }

  // A buffer's tokens of this warp's 16 features, over what the activation was given. All of that
  // is read before any of it is used: its latency counts once.
  template <Activation kind>
  __device__ void refill(std::uint32_t buffer, const float* sums, float (&totals)[2]) const {
    constexpr int kSteps = Config::kBufferTokens / Place::kTokens;
    typename Place::Words given[kSteps];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) place_.get(buffer, i * Place::kTokens, given[i]);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      float values[Place::kValues];
#pragma unroll
      for (int k = 0; k < Place::kValues; ++k) {
        values[k] = activation_gradient<kind, Precision>(Place::value(given[i], k),
                                                         sums[i * Place::kValues + k]);
      }
#pragma unroll
      for (int k = 0; k < Place::kValues; k += 2) totals[k / 2 % 2] += values[k] + values[k + 1];
      place_.put(buffer, i * Place::kTokens, values);
    }
  }

  // Tokens beyond the last have added zeros.
  __device__ void write_totals(const float (&totals)[2], const OwnTile<Config>& tile, int strip,
                               const Args& args) const {
    const std::int64_t row = tile.first_token / Config::kTokens;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float total = totals[h];
      total += __shfl_xor_sync(~0U, total, 1);
      total += __shfl_xor_sync(~0U, total, 2);
      const int feature = own_feature(tile.features[strip], h);
      if (threadIdx.x % 4 == 0 && feature >= 0 && feature < args.width)
        args.sums[row * args.width + feature] = total;
    }
  }

  __device__ static void store(const int (&features)[Config::kParts], int first_token,
                               std::uint32_t buffer, const CUtensorMap* map) {
#pragma unroll
    for (int q = 0; q < Config::kPieces; ++q) {
      if (piece_feature(features, q) >= 0) {
        store_box(map, buffer + static_cast<std::uint32_t>(q * Config::kPieceBytes),
                  piece_feature(features, q), first_token);
      }
    }
    commit_stores();
  }

  std::uint32_t buffers_;
  std::uint32_t loaded_;
  int id_;
  int warp_;
  Place place_;
  std::uint32_t used_ = 0;  // buffers so far
  float bias_[Config::kOwnStrips][2];
};

}  // namespace hew::kernels::hopper
