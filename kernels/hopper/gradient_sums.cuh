#pragma once

#include "kernels/hopper/gradient_config.cuh"
#include "kernels/hopper/ptx.cuh"
#include "kernels/hopper/wgmma.cuh"

namespace hew::kernels::hopper {

/// How a warpgroup multiplies 64 columns of its left operand with up to 256 of its right one over
/// the tokens of a stage, and where its sums belong. They come in groups of 64 columns, a group in
/// kPieces pieces, a piece as kPieceSums numbers of each thread.
template <class Config, class Element = typename Config::Element>
struct GradientSums;

/// The first left panel of a warpgroup's slot.
template <class Config>
__device__ int left_of(const GradientItem::Warpgroup& of, int slot) {
  return of.left[slot / (2 * kGroupWidth / Config::kPanel)];
}

/// wgmma, both operands as they lie in memory. A piece is 8 columns.
template <class Config>
struct GradientSums<Config, __nv_bfloat16> {
  static constexpr bool kAsync = true;  // multiply() begins; wgmma_wait() ends
  static constexpr int kPieces = kGroupWidth / 8;
  static constexpr int kPieceSums = 4;
  static constexpr int kAtOnce = Config::kPanel / 8;  // pieces of one slot

  /// sums += left · right, whose panels begin at these addresses.
  template <int groups>
  __device__ static void multiply(float (&sums)[groups * kGroupSums], std::uint32_t left,
                                  std::uint32_t right) {
    using Multiply = WgmmaBf16<groups * kGroupWidth, Major::kAcross, Major::kAcross>;
    constexpr int kBytes = Multiply::kDepth * Config::kRowBytes;  // descriptors count 16 bytes
    const std::uint64_t a =
        descriptor<Config::kSwizzle>(left, Config::kPanelBytes, 8 * Config::kRowBytes);
    const std::uint64_t b =
        descriptor<Config::kSwizzle>(right, Config::kPanelBytes, 8 * Config::kRowBytes);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < Config::kStepTokens / Multiply::kDepth; ++k)
      Multiply::multiply(sums, a + k * kBytes / 16, b + k * kBytes / 16, /*add=*/true);
    wgmma_commit();
  }

  /// The first slot that a piece, counted over all groups, may belong to.
  __device__ static int slot_of(int piece) {
    return piece / (Config::kPanel / 8);
  }

  /// `pieces` pieces from `first` on, of one slot, become part of a live block. Padding is zero
  /// whatever was multiplied there: an infinity times the other's zero is not.
  template <int pieces>
  __device__ static void write(const GradientParams& g, const GradientItem& item, int warpgroup,
                               int first, const float (&sums)[4 * pieces]) {
    constexpr int kPanel = Config::kPanel;
    constexpr int b = Config::kBlock;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = static_cast<int>(threadIdx.x) % kWarpgroupThreads / 32 * 16 + lane / 4;
    const GradientItem::Warpgroup of = item.of[warpgroup];
    const int line = row / kPanel;
    const int slot = first / (kPanel / 8);
    const int p = slot < of.slots ? item.block[warpgroup][line][slot] : -1;
    if (p < 0)
      return;
    const int left = item.start[left_of<Config>(of, slot) + line] + row % kPanel;
    const int right = item.start[of.right + slot] + first % (kPanel / 8) * 8 + 2 * (lane % 4);
    const int left_end = item.transposed != 0 ? g.cols : g.rows;
    const int right_end = item.transposed != 0 ? g.rows : g.cols;
    float* const out = g.dvalues + static_cast<std::int64_t>(p) * b * b;
    auto total = [&](float before, int pair, int half, int e) {
      const bool real = left + 8 * half < left_end && right + 8 * pair < right_end;
      return real ? before + sums[pair * 4 + 2 * half + e] : 0.0F;
    };
    if (item.transposed == 0) {
      auto* const to = reinterpret_cast<float2*>(out + left % b * b + right % b);
      float2 before[pieces][2] = {};
      if (g.add) {
#pragma unroll
        for (int k = 0; k < 2 * pieces; ++k) before[k / 2][k % 2] = to[k / 2 * 4 + k % 2 * 4 * b];
      }
#pragma unroll
      for (int k = 0; k < 2 * pieces; ++k) {
        const float2 old = before[k / 2][k % 2];
        to[k / 2 * 4 + k % 2 * 4 * b] =
            make_float2(total(old.x, k / 2, k % 2, 0), total(old.y, k / 2, k % 2, 1));
      }
    } else {
      float* const to = out + right % b * b + left % b;
      float before[pieces][2][2] = {};
      auto at = [&](int pair, int half, int e) { return (8 * pair + e) * b + 8 * half; };
      if (g.add) {
#pragma unroll
        for (int k = 0; k < 4 * pieces; ++k)
          before[k / 4][k / 2 % 2][k % 2] = to[at(k / 4, k / 2 % 2, k % 2)];
      }
#pragma unroll
      for (int k = 0; k < 4 * pieces; ++k) {
        const float old = before[k / 4][k / 2 % 2][k % 2];
        to[at(k / 4, k / 2 % 2, k % 2)] = total(old, k / 4, k / 2 % 2, k % 2);
      }
    }
  }
};

}  // namespace hew::kernels::hopper
