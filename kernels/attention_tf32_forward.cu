#include "kernels/attention_tf32.cuh"
#include "kernels/attention_tf32.h"

namespace hew::kernels {
namespace attention {
namespace {

struct ForwardPointers {
  const float* q;
  const float* k;
  const float* v;
  float* y;
  float* lse;
};

constexpr int kTileRows = 32;  // keys

// Bands of 16 queries a warp owns: with two each key in shared memory is read half as often; wide
// heads leave no registers for that.
template <int width>
inline constexpr int kBands = width == 64 ? 2 : 1;
template <int width>
inline constexpr int kBlockRows = kWarps* kBands<width>* kBand;

// Of one own row.
struct Softmax {
  float largest = -INFINITY;  // score so far
  float total = 0;            // Σ e^(score − largest) over this thread's keys
};

using Scores = float[kTileRows / 8][4];

// Keys from limit[half] on, counted within the tile, are not seen by own row g + 8·half.
__device__ void hide(Scores& scores, const int (&limit)[2]) {
#pragma unroll
  for (int n = 0; n < kTileRows / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (8 * n + lane_index() % 4 * 2 + e % 2 >= limit[e / 2])
        scores[n][e] = -INFINITY;
    }
  }
}

// Scores become weights 2^(factor·(score − largest)), and what was summed up with an older
// `largest` is scaled down. Every row sees key 0, so that `largest` is finite from the first tile
// on.
template <int width>
__device__ void weigh(Scores& scores, int half, float factor, Softmax& softmax,
                      RowSums<width>& sums) {
  float largest = softmax.largest;
#pragma unroll
  for (int n = 0; n < kTileRows / 8; ++n)
    largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
  largest = row_max(largest);
  const float shrink = exp2_fast(factor * (softmax.largest - largest));
  const float shift = factor * largest;
  float total = 0;
#pragma unroll
  for (int n = 0; n < kTileRows / 8; ++n) {
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      float& score = scores[n][2 * half + side];
      score = exp2_fast(factor * score - shift);  // a NaN stays
      total += score;
    }
  }
  softmax.largest = largest;
  softmax.total = softmax.total * shrink + total;
#pragma unroll
  for (int i = 0; i < width / 32; ++i) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      sums[i][e][2 * half] *= shrink;
      sums[i][e][2 * half + 1] *= shrink;
    }
  }
}

template <int width>
__global__ void __launch_bounds__(kThreads, 2)
    forward_kernel(const ForwardPointers at, const Geometry g, std::int64_t tiles) {
  using KeyTile = Tile<width, kTileRows>;
  constexpr int kStage = 2 * KeyTile::kChunks;  // keys and values
  extern __shared__ float4 shared[];            // [2][kStage]

  const Place place(blockIdx.x, tiles, g.heads, kBlockRows<width>);
  const std::int64_t key_head = place.head / g.group();
  const int own = warp_index() * kBands<width> * kBand;  // within the block
  const std::int64_t first = place.begin + own;
  const Rows queries{.data = at.q + g.query_row(place.batch, place.head, place.begin),
                     .stride = g.query_stride(),
                     .count = static_cast<int>(g.queries - place.begin),
                     .width = g.width};
  const auto copy = [&](int begin) {
    const std::int64_t offset = g.key_row(place.batch, key_head, begin);
    float4* const to = shared + begin / kTileRows % 2 * kStage;
    Rows from{.data = at.k + offset,
              .stride = g.key_stride(),
              .count = static_cast<int>(g.keys - begin),
              .width = g.width};
    KeyTile::copy(to, from);
    from.data = at.v + offset;
    KeyTile::copy(to + KeyTile::kChunks, from);
  };

  copy(0);
  HeldRows<width> q[kBands<width>];
#pragma unroll
  for (int band = 0; band < kBands<width>; ++band) q[band].load(queries, own + band * kBand);

  const float factor = static_cast<float>(g.scale * M_LOG2E);
  Softmax softmax[kBands<width>][2];
  RowSums<width> sums[kBands<width>] = {};
  const int end = static_cast<int>(g.visible(place.begin + kBlockRows<width> - 1));
  const int own_end =
      first < g.queries ? static_cast<int>(g.visible(first + kBands<width> * kBand - 1)) : 0;
  for (int begin = 0; begin < end; begin += kTileRows) {
    await_copies();
    __syncthreads();  // the tile is there, and nobody reads the one before it any more
    if (begin + kTileRows < end)
      copy(begin + kTileRows);
    if (begin >= own_end)
      continue;
    const float4* const tile = shared + begin / kTileRows % 2 * kStage;
    Scores scores[kBands<width>] = {};
    add_scores<width, kTileRows>(q, tile, scores);
#pragma unroll
    for (int band = 0; band < kBands<width>; ++band) {
      const std::int64_t row = first + band * kBand + lane_index() / 4;
      if (begin + kTileRows > g.visible(first))
        hide(scores[band], {static_cast<int>(g.visible(row)) - begin,
                            static_cast<int>(g.visible(row + 8)) - begin});
#pragma unroll
      for (int half = 0; half < 2; ++half)
        weigh<width>(scores[band], half, factor, softmax[band][half], sums[band]);
    }
    add_weighted_rows<width, kTileRows>(scores, tile + KeyTile::kChunks, sums);
  }

#pragma unroll
  for (int band = 0; band < kBands<width>; ++band) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t row = first + band * kBand + lane_index() / 4 + 8 * half;
      const float largest = softmax[band][half].largest;
      const float total = row_sum(softmax[band][half].total);
      if (row >= g.queries)
        continue;
      store_row<width>(sums[band], half, 1 / total,
                       at.y + g.query_row(place.batch, place.head, row), g.width);
      if (lane_index() % 4 == 0)
        at.lse[g.statistic(place.batch, place.head, row)] =
            static_cast<float>(g.scale) * largest + logf(total);
    }
  }
}

template <int width>
void run_forward(Cuda backend, const ForwardPointers& at, const Geometry& g) {
  const Launch launch{.name = "attention in tf32",
                      .shared_bytes = 2 * 2 * Tile<width, kTileRows>::kChunks * sizeof(float4),
                      .count = g.queries,
                      .rows = kBlockRows<width>,
                      .heads = g.batch * g.heads};
  launch.run(backend, forward_kernel<width>, at, g);
}

}  // namespace
}  // namespace attention

bool tf32_attention_forward(Cuda backend, const AttentionForward& args) {
  const attention::ForwardPointers at{.q = elements<float>(args.q),
                                      .k = elements<float>(args.k),
                                      .v = elements<float>(args.v),
                                      .y = elements<float>(args.y),
                                      .lse = elements<float>(args.lse)};
  const attention::Geometry g(args.q, args.k, args.options);
  if (!attention::allows_tf32(backend, g) || !packable(at.q, at.k, at.v, at.y))
    return false;
  if (g.width <= 64)
    attention::run_forward<64>(backend, at, g);
  else
    attention::run_forward<128>(backend, at, g);
  return true;
}

}  // namespace hew::kernels
