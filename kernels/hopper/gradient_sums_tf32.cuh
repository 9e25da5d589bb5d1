#pragma once

#include "kernels/hopper/gradient_sums.cuh"
#include "kernels/mma_tf32.cuh"

namespace hew::kernels::hopper {

/// mma of warps: wgmma takes tf32 from shared memory along the depth alone, and here that are the
/// tokens, across which both operands lie. A warp multiplies all 64 left columns with 16 right ones
/// of each group. Which column of a panel is which row or column of an mma is free, and so is which
/// token is which step of the depth: a thread takes neighbours with one access, left columns 4g to
/// 4g + 3 of each half and right ones 2g and 2g + 1, for tokens 2t and 2t + 1, such that in each
/// part of the access the lanes' chunks of 16 bytes lie in different banks. A piece is 32 left
/// columns; a thread's sums of it are [4 left columns][4 right columns], neighbours.
template <class Config>
struct GradientSums<Config, float> {
  static constexpr bool kAsync = false;
  static constexpr int kPieces = 2;
  static constexpr int kPieceSums = 16;
  static constexpr int kAtOnce = 1;

  /// sums += left · right, whose panels begin at these addresses.
  template <int groups>
  __device__ static void multiply(float (&sums)[groups * kGroupSums], std::uint32_t left,
                                  std::uint32_t right) {
    constexpr int kDepth = 8;
    const auto lane = threadIdx.x % 32;
    const auto warp = threadIdx.x / 32 % 4;
    std::uint32_t from_left[2];  // token 2t, and token 2t + 1
    std::uint32_t from_right[2];
#pragma unroll
    for (std::uint32_t e = 0; e < 2; ++e) {
      const std::uint32_t token = 2 * (lane % 4) + e;
      const std::uint32_t chunk = warp % 2 * 4 + lane / 8;
      from_left[e] = left + token * Config::kRowBytes + (lane / 4 ^ token) * 16;
      from_right[e] = right + warp / 2 * Config::kBoxBytes + token * Config::kRowBytes +
                      (chunk ^ token) * 16 + lane / 4 % 2 * 8;
    }
#pragma unroll
    for (int k = 0; k < Config::kStepTokens; k += kDepth) {
      const std::uint32_t depth = k * Config::kRowBytes;
      float4 a[kPieces][2];
#pragma unroll
      for (int half = 0; half < kPieces; ++half) {
#pragma unroll
        for (int e = 0; e < 2; ++e)
          a[half][e] = load_float4(from_left[e] + half * Config::kBoxBytes + depth);
      }
#pragma unroll
      for (int group = 0; group < groups; ++group) {
        float2 b[2];
#pragma unroll
        for (int e = 0; e < 2; ++e)
          b[e] = load_float2(from_right[e] + 2 * group * Config::kBoxBytes + depth);
#pragma unroll
        for (int half = 0; half < kPieces; ++half) {
          float* const d = sums + group * kGroupSums + half * kPieceSums;
          multiply_columns(d, a[half][0].x, a[half][0].y, a[half][1].x, a[half][1].y, b);
          multiply_columns(d + 8, a[half][0].z, a[half][0].w, a[half][1].z, a[half][1].w, b);
        }
      }
    }
  }

  /// The first slot that a piece, counted over all groups, may belong to.
  __device__ static int slot_of(int piece) {
    return piece / kPieces * kGroupWidth / Config::kPanel;
  }

  /// A piece becomes part of live blocks. Padding is zero whatever was multiplied there.
  template <int pieces>
  __device__ static void write(const GradientParams& g, const GradientItem& item, int warpgroup,
                               int piece, const float (&sums)[kPieceSums * pieces]) {
    static_assert(pieces == 1);
    constexpr int kPanel = Config::kPanel;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) % kWarpgroupThreads / 32;
    const int row = piece % kPieces * 32 + lane / 4 * 4;
    const int col = piece / kPieces * kGroupWidth + warp * 16 + lane % 4 * 4;
    const GradientItem::Warpgroup of = item.of[warpgroup];
    const int slot = col / kPanel;
    const int line = row / kPanel;
    const int p = slot < of.slots ? item.block[warpgroup][line][slot] : -1;
    if (p < 0)
      return;
    const Square square{.sums = sums,
                        .left = item.start[left_of<Config>(of, slot) + line] + row % kPanel,
                        .right = item.start[of.right + slot] + col % kPanel};
    float* const block = g.dvalues + static_cast<std::int64_t>(p) * Config::kBlock * Config::kBlock;
    if (item.transposed == 0)
      square.template write<false>(g, block);
    else
      square.template write<true>(g, block);
  }

 private:
  // Sums of 4 × 4 columns from these on.
  struct Square {
    const float (&sums)[kPieceSums];
    int left;
    int right;

    // Row by row of the block: its rows are the left columns, or where transposed the right ones.
    template <bool transposed>
    __device__ void write(const GradientParams& g, float* block) const {
      constexpr int b = Config::kBlock;
      const int row = transposed ? right : left;
      const int col = transposed ? left : right;
      auto* const to = reinterpret_cast<float4*>(block + row % b * b + col % b);
      float4 before[4] = {};
      if (g.add) {
#pragma unroll
        for (int i = 0; i < 4; ++i) before[i] = to[i * (b / 4)];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        auto total = [&](float old, int j) {
          const bool real = row + i < g.rows && col + j < g.cols;
          return real ? old + sums[transposed ? j * 4 + i : i * 4 + j] : 0.0F;
        };
        to[i * (b / 4)] = make_float4(total(before[i].x, 0), total(before[i].y, 1),
                                      total(before[i].z, 2), total(before[i].w, 3));
      }
    }
  };

  // Two mma: d[2 rows][4 columns], where right column 2n + j is column n of mma j.
  __device__ static void multiply_columns(float* d, float a0, float a1, float a2, float a3,
                                          const float2 (&b)[2]) {
    multiply_tf32(d[0], d[2], d[4], d[6], a0, a1, a2, a3, b[0].x, b[1].x);
    multiply_tf32(d[1], d[3], d[5], d[7], a0, a1, a2, a3, b[0].y, b[1].y);
  }
};

}  // namespace hew::kernels::hopper
