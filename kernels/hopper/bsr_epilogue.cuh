#pragma once

#include "kernels/activation_math.cuh"
#include "kernels/hopper/bsr_output_place.cuh"

namespace hew::kernels::hopper {

/// One warpgroup's output: from sums in registers, features × tokens as wgmma leaves them, to
/// rows of tokens in device memory, through shared memory that TMA stores from. A thread holds
/// features f and f + 8 of each strip, for pairs of tokens. Where an ending joins other matrices
/// [tokens, width] with the sums, TMA loads those into the buffers before the output takes their
/// place, the first of them while the tile is being multiplied; of a row that is cut, when its sums
/// are complete.
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

  /// Before a tile is multiplied, or when the sums of a cut row are complete: begins to load what
  /// its ending joins with it, into all buffers.
  __device__ void prefetch(const OwnTile<Config>& tile, const BsrProductMaps& maps,
                           const Args& args) {
    if (args.ending == BsrEnding::kPlain || !leads())
      return;
    wait_stores_read<0>();
    const bool pairs = args.ending == BsrEnding::kGated;
#pragma unroll
    for (int b = 0; b < Config::kBuffers; ++b) {
      const bool second = pairs && b % 2 != 0;
      load(tile, pairs ? b / 2 : b, used_ + static_cast<std::uint32_t>(b),
           second ? &maps.second_given : &maps.given);
    }
  }

  /// Of the forward product, see BsrEnding.
  __device__ void write(const Sums& sums, const OwnTile<Config>& tile, const BsrProductMaps& maps,
                        const Args& args) {
    if (args.ending == BsrEnding::kGate)
      write_joined<SiluTimes>(sums, tile, maps, args);
    else if (args.ending == BsrEnding::kResidual)
      write_joined<Plus>(sums, tile, maps, args);
    else
      write_activated(sums, tile, maps, args);
    if (args.keep_pre)
      write_as<Activation::kNone>(sums, tile, &maps.second_out);
  }

  /// Of the input gradient.
  __device__ void write_gradient(const Sums& sums, const OwnTile<Config>& tile,
                                 const BsrProductMaps& maps, const Args& args) {
    if (args.ending == BsrEnding::kGated)
      return write_gated(sums, tile, maps);
    switch (args.activation) {
      case Activation::kNone:
        return write_as<Activation::kNone>(sums, tile, &maps.out);
      case Activation::kRelu:
        return write_joined<Slope<Activation::kRelu>>(sums, tile, maps, args);
      case Activation::kGelu:
        return write_joined<Slope<Activation::kGelu>>(sums, tile, maps, args);
      case Activation::kGeluTanh:
        return write_joined<Slope<Activation::kGeluTanh>>(sums, tile, maps, args);
      case Activation::kSilu:
        return write_joined<Slope<Activation::kSilu>>(sums, tile, maps, args);
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

  // How a sum is joined with what was given.
  template <Activation kind>
  struct Slope {
    __device__ static float of(float sum, float given) {
      return activation_gradient<kind, Precision>(given, sum);
    }
  };
  struct SiluTimes {
    __device__ static float of(float sum, float given) {
      return sum * given * logistic<Precision>(given).value;
    }
  };
  struct Plus {
    __device__ static float of(float sum, float given) { return sum + given; }
  };

  static constexpr int kThreads = 128;
  static constexpr int kSteps = Config::kBufferTokens / Place::kTokens;  // of a fill
  static constexpr int kFillsOfStrip = Config::kTokens / Config::kBufferTokens;
  static_assert(Config::kBuffers % 2 == 0 && Config::kFills % Config::kBuffers == 0,
                "a tile begins with the first buffer");

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

  __device__ void write_activated(const Sums& sums, const OwnTile<Config>& tile,
                                  const BsrProductMaps& maps, const Args& args) {
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

  // Value k of what wgmma leaves of two features.
  __device__ static float with_bias(float sum, const float (&bias)[2], int k) {
    return Config::kGradient ? sum : sum + bias[k / 2 % 2];
  }

  // Some tokens of this warp's 16 features.
  template <Activation kind>
  __device__ void fill(std::uint32_t buffer, int token, const float* sums,
                       const float (&bias)[2]) const {
    float values[Place::kValues];
#pragma unroll
    for (int k = 0; k < Place::kValues; ++k) {
      values[k] = activated<kind, Precision>(with_bias(sums[k], bias, k));
    }
    place_.put(buffer, token, values);
  }

  template <class Join>
  __device__ void write_joined(const Sums& sums, const OwnTile<Config>& tile,
                               const BsrProductMaps& maps, const Args& args) {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
      float totals[2] = {};
#pragma unroll
      for (int t = 0; t < kFillsOfStrip; ++t) {
        const std::uint32_t buffer = buffer_of(used_);
        await_load(used_);
        refill<Join>(buffer, sums[s] + t * Config::kBufferTokens / 2, bias_[s], totals);
        fence_for_async();
        named_barrier(id_, kThreads);
        if (leads()) {
          store(tile.features[s], tile.first_token + t * Config::kBufferTokens, buffer, &maps.out);
          const int next = s * kFillsOfStrip + t + Config::kBuffers;
          if (next < Config::kFills) {
            wait_stores_read<0>();
            load(tile, next, used_ + Config::kBuffers, &maps.given);
          }
        }
        ++used_;
      }
      if (Config::kGradient && args.sums != nullptr)
        write_totals(totals, tile, s, args);
    }
  }

  // A fill has two buffers: the gate's, which the gradient of the gate takes, and up's.
  __device__ void write_gated(const Sums& sums, const OwnTile<Config>& tile,
                              const BsrProductMaps& maps) {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
#pragma unroll
      for (int t = 0; t < kFillsOfStrip; ++t) {
        const std::uint32_t gate = buffer_of(used_);
        const std::uint32_t up = buffer_of(used_ + 1);
        await_load(used_);
        await_load(used_ + 1);
        refill_gated(gate, up, sums[s] + t * Config::kBufferTokens / 2);
        fence_for_async();
        named_barrier(id_, kThreads);
        if (leads()) {
          const int token = tile.first_token + t * Config::kBufferTokens;
          store(tile.features[s], token, gate, &maps.second_out);
          store(tile.features[s], token, up, &maps.out);
          const int next = s * kFillsOfStrip + t + Config::kBuffers / 2;
          if (next < Config::kFills) {
            wait_stores_read<0>();
            load(tile, next, used_ + Config::kBuffers, &maps.given);
            load(tile, next, used_ + Config::kBuffers + 1, &maps.second_given);
          }
        }
        used_ += 2;
      }
    }
  }

  __device__ void await_load(std::uint32_t use) {
    wait(loaded_barrier(use), loads_ / Config::kBuffers & 1);
    ++loads_;
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

  // A buffer's tokens of this warp's 16 features, over what was given. All of that is read before
  // any of it is used: its latency counts once.
  template <class Join>
  __device__ void refill(std::uint32_t buffer, const float* sums, const float (&bias)[2],
                         float (&totals)[2]) const {
    typename Place::Words given[kSteps];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) place_.get(buffer, i * Place::kTokens, given[i]);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      float values[Place::kValues];
#pragma unroll
      for (int k = 0; k < Place::kValues; ++k) {
        values[k] =
            Join::of(with_bias(sums[i * Place::kValues + k], bias, k), Place::value(given[i], k));
      }
#pragma unroll
      for (int k = 0; k < Place::kValues; k += 2) totals[k / 2 % 2] += values[k] + values[k + 1];
      place_.put(buffer, i * Place::kTokens, values);
    }
  }

  __device__ void refill_gated(std::uint32_t gate, std::uint32_t up, const float* sums) const {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      typename Place::Words gates;
      typename Place::Words ups;
      place_.get(gate, i * Place::kTokens, gates);
      place_.get(up, i * Place::kTokens, ups);
      float of_gate[Place::kValues];
      float of_up[Place::kValues];
#pragma unroll
      for (int k = 0; k < Place::kValues; ++k) {
        const float sum = sums[i * Place::kValues + k];
        const float g = Place::value(gates, k);
        const auto s = logistic<Precision>(g);
        of_gate[k] = sum * Place::value(ups, k) * (s.value + g * s.slope);
        of_up[k] = sum * g * s.value;
      }
      place_.put(gate, i * Place::kTokens, of_gate);
      place_.put(up, i * Place::kTokens, of_up);
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

  // Nothing of this product reads it again.
  __device__ static void store(const int (&features)[Config::kParts], int first_token,
                               std::uint32_t buffer, const CUtensorMap* map) {
#pragma unroll
    for (int q = 0; q < Config::kPieces; ++q) {
      if (piece_feature(features, q) >= 0) {
        store_box(map, buffer + static_cast<std::uint32_t>(q * Config::kPieceBytes),
                  piece_feature(features, q), first_token, drop_first());
      }
    }
    commit_stores();
  }

  std::uint32_t buffers_;
  std::uint32_t loaded_;
  int id_;
  int warp_;
  Place place_;
  std::uint32_t used_ = 0;   // buffers so far
  std::uint32_t loads_ = 0;  // of those that were loaded into
  float bias_[Config::kOwnStrips][2];
};

}  // namespace hew::kernels::hopper
