#pragma once

#include "kernels/activation_math.cuh"
#include "kernels/hopper/bsr_config.cuh"

namespace hew::kernels::hopper {

/// One warpgroup's output: from sums in registers, features × tokens as wgmma leaves them, to
/// rows of tokens in device memory, through shared memory that TMA stores from. A thread holds
/// features f and f + 8 of each strip, for pairs of tokens. The input gradient's goes back through
/// an activation there: what that was given is loaded into a buffer before the output takes its
/// place.
template <class Config>
class BsrEpilogue {
 public:
  using Sums = float[Config::kOwnStrips][Config::kSums];

  /// `buffers` are this warpgroup's, and so are `loaded`, a barrier for each; `id` is that of the
  /// barrier of its threads.
  __device__ BsrEpilogue(std::uint32_t buffers, std::uint32_t loaded, int id)
      : buffers_(buffers), loaded_(loaded), id_(id), warp_(static_cast<int>(threadIdx.x) / 32 % 4) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    // Lanes 0–7, 8–15, … give the rows of four 8 × 8 matrices: features 0–7 and 8–15 of the warp
    // for tokens 0–7, then for tokens 8–15.
    const int token = lane / 16 * 8 + lane % 8;
    const int part = warp_ / kWarpsPerPart;
    const int chunk = warp_ % kWarpsPerPart * 2 + lane / 8 % 2;  // of 8 features, 16 bytes
    // What the swizzle exchanges chunks by: bits of the address that count rows.
    const int swizzled = Config::kBox == 64 ? chunk ^ token % 8 : chunk ^ token / 2 % 4;
    place_ = static_cast<std::uint32_t>(part * kPartBytes + token * kRowBytes + swizzled * 16);
  }

  /// Loads this thread's elements of the bias.
  __device__ void prepare(const OwnTile<Config>& tile, const BsrProductArgs& args) {
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int feature = own_feature(tile.features[s], h);
        const bool there = args.bias != nullptr && feature >= 0 && feature < args.width;
        bias_[s][h] = there ? __bfloat162float(args.bias[feature]) : 0.0F;
      }
    }
  }

  /// out ← act(sums + bias), pre ← sums + bias where it is kept
  __device__ void write(const Sums& sums, const OwnTile<Config>& tile, const BsrProductMaps& maps,
                        const BsrProductArgs& args) {
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
                           const BsrProductArgs& args) {
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
                                 const BsrProductMaps& maps, const BsrProductArgs& args) {
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
  static constexpr int kThreads = 128;
  static constexpr int kWarpsPerPart = 4 / Config::kParts;
  static constexpr int kRowBytes = Config::kBox * 2;
  static constexpr int kPartBytes = Config::kBufferTokens * kRowBytes;
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
    // Not by index, which would put the tile into memory.
    const int first = warp_ / kWarpsPerPart == 0 ? features[0] : features[Config::kParts - 1];
    const int within = warp_ % kWarpsPerPart * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
    return first < 0 ? -1 : first + within + 8 * h;
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
        for (int i = 0; i < Config::kBufferTokens; i += 16) {
          fill<kind>(buffer + place_ + static_cast<std::uint32_t>(i * kRowBytes),
                     sums[s] + (t + i) / 2, bias_[s]);
        }
        fence_for_async();
        named_barrier(id_, kThreads);
        if (leads())
          store(tile.features[s], tile.first_token + t, buffer, map);
        ++used_;
      }
    }
  }

  // 16 tokens of this warp's 16 features.
  template <Activation kind>
  __device__ static void fill(std::uint32_t address, const float* sums, const float (&bias)[2]) {
    std::uint32_t pairs[4];  // (feature + 8·h, tokens) for h = 0, 1 and two groups of 8 tokens
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float values[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float sum = sums[2 * j + e];
        values[e] = activated<kind, __nv_bfloat16>(Config::kTransposed ? sum : sum + bias[j % 2]);
      }
      pairs[j] = pack_bf16(values[0], values[1]);
    }
    store_transposed(address, pairs[0], pairs[1], pairs[2], pairs[3]);
  }

  template <Activation kind>
  __device__ void write_gradient_of(const Sums& sums, const OwnTile<Config>& tile,
                                    const BsrProductMaps& maps, const BsrProductArgs& args) {
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

  // By the leading thread: what belongs to the tile's part `fill` of the output, of 64 tokens.
  __device__ void load(const OwnTile<Config>& tile, int fill, std::uint32_t use,
                       const CUtensorMap* map) {
    const std::uint32_t barrier = loaded_barrier(use);
    const auto& features = tile.features[fill / kFillsOfStrip];
    const int token = tile.first_token + fill % kFillsOfStrip * Config::kBufferTokens;
    int bytes = 0;
#pragma unroll
    for (int p = 0; p < Config::kParts; ++p) bytes += features[p] >= 0 ? kPartBytes : 0;
    arrive_and_expect(barrier, static_cast<std::uint32_t>(bytes));
#pragma unroll
    for (int p = 0; p < Config::kParts; ++p) {
      if (features[p] >= 0) {
        load_box(buffer_of(use) + static_cast<std::uint32_t>(p * kPartBytes), map, barrier,
                 features[p], token);
      }
    }
  }

  // 64 tokens of this warp's 16 features, over what the activation was given. All of that is read
  // before any of it is used: its latency counts once.
  template <Activation kind>
  __device__ void refill(std::uint32_t buffer, const float* sums, float (&totals)[2]) const {
    constexpr int kSteps = Config::kBufferTokens / 16;
    const std::uint32_t first = buffer + place_;
    std::uint32_t pairs[kSteps][4];  // as in fill()
#pragma unroll
    for (int i = 0; i < kSteps; ++i)
      load_transposed(first + static_cast<std::uint32_t>(i * 16 * kRowBytes), pairs[i]);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* sum = sums + 8 * i + 2 * j;
        const std::uint32_t x = pairs[i][j];
        const float low = activation_gradient<kind, __nv_bfloat16>(low_bf16(x), sum[0]);
        const float high = activation_gradient<kind, __nv_bfloat16>(high_bf16(x), sum[1]);
        totals[j % 2] += low + high;
        pairs[i][j] = pack_bf16(low, high);
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      store_transposed(first + static_cast<std::uint32_t>(i * 16 * kRowBytes), pairs[i][0],
                       pairs[i][1], pairs[i][2], pairs[i][3]);
    }
  }

  // Tokens beyond the last have added zeros.
  __device__ void write_totals(const float (&totals)[2], const OwnTile<Config>& tile, int strip,
                               const BsrProductArgs& args) const {
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
    for (int p = 0; p < Config::kParts; ++p) {
      if (features[p] >= 0) {
        store_box(map, buffer + static_cast<std::uint32_t>(p * kPartBytes), features[p],
                  first_token);
      }
    }
    commit_stores();
  }

  std::uint32_t buffers_;
  std::uint32_t loaded_;
  int id_;
  int warp_;
  std::uint32_t place_;
  std::uint32_t used_ = 0;  // buffers so far
  float bias_[Config::kOwnStrips][2];
};

}  // namespace hew::kernels::hopper
