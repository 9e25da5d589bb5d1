#pragma once

#include "kernels/activation_math.cuh"
#include "kernels/hopper/bsr_config.cuh"

namespace hew::kernels::hopper {

/// One warpgroup's output: from sums in registers, features × tokens as wgmma leaves them, to
/// rows of tokens in device memory, through shared memory that TMA stores from. A thread holds
/// features f and f + 8 of each strip, for pairs of tokens.
template <class Config>
class BsrEpilogue {
 public:
  using Sums = float[Config::kOwnStrips][Config::kSums];

  /// `buffers` are this warpgroup's; `id` is that of its barrier.
  __device__ BsrEpilogue(std::uint32_t buffers, int id)
      : buffers_(buffers), id_(id), warp_(static_cast<int>(threadIdx.x) / 32 % 4) {
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
    const int part = warp_ / kWarpsPerPart;
    const int within = warp_ % kWarpsPerPart * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int s = 0; s < Config::kOwnStrips; ++s) {
      // Not by index, which would put the tile into memory.
      const int first = part == 0 ? tile.features[s][0] : tile.features[s][Config::kParts - 1];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int feature = first + within + 8 * h;
        const bool there = args.bias != nullptr && first >= 0 && feature < args.width;
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

  /// out ← sums
  __device__ void write(const Sums& sums, const OwnTile<Config>& tile, const BsrProductMaps& maps) {
    write_as<Activation::kNone>(sums, tile, &maps.out);
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

  __device__ bool leads() const {
    return threadIdx.x % kThreads == 0;
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
        const std::uint32_t buffer =
            buffers_ + used_ % Config::kBuffers * static_cast<std::uint32_t>(Config::kBufferBytes);
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
  int id_;
  int warp_;
  std::uint32_t place_;
  std::uint32_t used_ = 0;  // buffers so far
  float bias_[Config::kOwnStrips][2];
};

}  // namespace hew::kernels::hopper
