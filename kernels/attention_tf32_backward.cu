#include <type_traits>

#include "kernels/attention_tf32.cuh"
#include "kernels/attention_tf32.h"

namespace hew::kernels {
namespace attention {
namespace {

struct BackwardPointers {
  const float* q;
  const float* k;
  const float* v;
  const float* y;
  const float* dy;
  const float* lse;
  float* delta;  // [B, H, Tq], dy·y = Σ_j p[·, j]·(dy·v[j])
  float* dq;
  float* dk;
  float* dv;
};

constexpr int kBlockRows = kWarps * kBand;

// Rows of a tile, and where own rows are held: wide heads need the registers for sums.
template <int width>
inline constexpr int kTileRows = 2048 / width;
template <int width>
inline constexpr bool kHeld = width == 64;
template <int width>
using Own = std::conditional_t<kHeld<width>, HeldRows<width>, StoredRows<width>>;
template <int width>
inline constexpr int kOwnChunks = kHeld<width> ? 0 : StoredRows<width>::kSlots;

// A band of own rows of two matrices; `stored` has room for 2·kOwnChunks.
template <int width>
struct OwnPair {
  __device__ explicit OwnPair([[maybe_unused]] float4* stored) {
    if constexpr (!kHeld<width>) {
      first[0] = Own<width>(stored);
      second[0] = Own<width>(stored + kOwnChunks<width>);
    }
  }
  Own<width> first[1];
  Own<width> second[1];
};

// What is loaded at a time, in chunks: tiles of two matrices, and of queries their lse and delta.
template <int width>
struct TilePair {
  using One = Tile<width, kTileRows<width>>;
  static constexpr int kFirst = 0;
  static constexpr int kSecond = One::kChunks;
  static constexpr int kLse = 2 * One::kChunks;
  static constexpr int kDelta = kLse + kTileRows<width> / 4;
  static constexpr int kChunks = kDelta + kTileRows<width> / 4;
  static constexpr std::size_t kSharedBytes = (2 * kChunks + 2 * kOwnChunks<width>)*sizeof(float4);
};

template <int width>
using Scores = float[kTileRows<width> / 8][4];

// dy·y of own rows g and g + 8; `row` is the first of the band.
template <int width>
__device__ void multiply_rows(const Rows& dy, const Rows& y, int row, float (&delta)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < width / kStep; ++c) {
      const int column = c * kStep + lane_index() % 4 * 4;
      const float4 a = dy.four(row + lane_index() / 4 + 8 * half, column);
      const float4 b = y.four(row + lane_index() / 4 + 8 * half, column);
      sum += a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
    }
    delta[half] = row_sum(sum);
  }
}

// dq[i] ← scale·Σ_j ds[i, j]·k[j] with ds = p·(dy·v − delta), and delta for key_gradients_kernel.
template <int width>
__global__ void __launch_bounds__(kThreads, width == 64 ? 3 : 2)
    query_gradients_kernel(const BackwardPointers at, const Geometry g, std::int64_t tiles) {
  constexpr int kRows = kTileRows<width>;
  using KeyTile = Tile<width, kRows>;
  using Stage = TilePair<width>;
  extern __shared__ float4 shared[];  // [2][Stage::kChunks], own rows

  const Place place(blockIdx.x, tiles, g.heads, kBlockRows);
  const std::int64_t key_head = place.head / g.group();
  const int own = warp_index() * kBand;  // within the block
  const std::int64_t first = place.begin + own;
  const auto copy = [&](int begin) {
    const std::int64_t offset = g.key_row(place.batch, key_head, begin);
    float4* const to = shared + begin / kRows % 2 * Stage::kChunks;
    Rows from{.data = at.k + offset,
              .stride = g.key_stride(),
              .count = static_cast<int>(g.keys - begin),
              .width = g.width};
    KeyTile::copy(to + Stage::kFirst, from);
    from.data = at.v + offset;
    KeyTile::copy(to + Stage::kSecond, from);
  };

  copy(0);
  const std::int64_t offset = g.query_row(place.batch, place.head, place.begin);
  const auto rows_of = [&](const float* x) {
    return Rows{.data = x + offset,
                .stride = g.query_stride(),
                .count = static_cast<int>(g.queries - place.begin),
                .width = g.width};
  };
  OwnPair<width> q_dy(shared + 2 * Stage::kChunks);
  q_dy.first[0].load(rows_of(at.q), own);
  q_dy.second[0].load(rows_of(at.dy), own);
  float delta[2];
  multiply_rows<width>(rows_of(at.dy), rows_of(at.y), own, delta);
  float lse[2];  // to the base 2
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = first + lane_index() / 4 + 8 * half;
    const std::int64_t statistic = g.statistic(place.batch, place.head, row);
    lse[half] = row < g.queries ? static_cast<float>(M_LOG2E) * at.lse[statistic] : 0;
    if (row < g.queries && lane_index() % 4 == 0)
      at.delta[statistic] = delta[half];
  }

  const float factor = static_cast<float>(g.scale * M_LOG2E);
  RowSums<width> sums[1] = {};
  const int end = static_cast<int>(g.visible(place.begin + kBlockRows - 1));
  const int own_end = first < g.queries ? static_cast<int>(g.visible(first + kBand - 1)) : 0;
  for (int begin = 0; begin < end; begin += kRows) {
    await_copies();
    __syncthreads();  // the tile is there, and nobody reads the one before it any more
    if (begin + kRows < end)
      copy(begin + kRows);
    if (begin >= own_end)
      continue;
    const float4* const tile = shared + begin / kRows % 2 * Stage::kChunks;
    Scores<width> p[1] = {};
    add_scores<width, kRows>(q_dy.first, tile + Stage::kFirst, p);
    Scores<width> ds[1] = {};
    add_scores<width, kRows>(q_dy.second, tile + Stage::kSecond, ds);
    const std::int64_t row = first + lane_index() / 4;
    const int seen[2] = {static_cast<int>(g.visible(row)) - begin,
                         static_cast<int>(g.visible(row + 8)) - begin};
    const bool all = begin + kRows <= g.visible(first);
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool live = all || 8 * n + lane_index() % 4 * 2 + e % 2 < seen[e / 2];
        const float weight = live ? exp2_fast(factor * p[0][n][e] - lse[e / 2]) : 0;
        ds[0][n][e] = weight * (ds[0][n][e] - delta[e / 2]);
      }
    }
    add_weighted_rows<width, kRows>(ds, tile + Stage::kFirst, sums);
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = first + lane_index() / 4 + 8 * half;
    if (row < g.queries)
      store_row<width>(sums[0], half, static_cast<float>(g.scale),
                       at.dq + g.query_row(place.batch, place.head, row), g.width);
  }
}

// The tiles of queries that see some key of a block, head by head of the group.
struct QueryWalk {
  __device__ QueryWalk(const Geometry& g, const Place& place, int rows)
      : start(g.first_query(place.begin)),
        queries(g.queries),
        head(place.head * g.group()),
        begin(start),
        end_head(head + g.group()),
        step(rows) {}

  __device__ bool done() const { return head == end_head || start >= queries; }
  __device__ void advance() {
    begin += step;
    if (begin < queries)
      return;
    begin = start;
    ++head;
  }

  std::int64_t start;
  std::int64_t queries;
  std::int64_t head;
  std::int64_t begin;
  std::int64_t end_head;
  int step;
};

// One statistic of `rows` queries, of which `count` exist, to shared memory; of the others it is 0.
template <int rows>
__device__ void copy_statistics(float4* to, const float* from, int count) {
  static_assert(rows <= kWarp);
  const int i = lane_index();
  if (i < rows)
    copy_or_clear<4>(reinterpret_cast<float*>(to) + i, i < count ? from + i : from, i < count);
}

// dv[j] ← Σ_i p[i, j]·dy[i] and dk[j] ← scale·Σ_i ds[i, j]·q[i], over the query heads of the group
// in order.
template <int width>
__global__ void __launch_bounds__(kThreads, 2)
    key_gradients_kernel(const BackwardPointers at, const Geometry g, std::int64_t tiles) {
  constexpr int kRows = kTileRows<width>;
  using QueryTile = Tile<width, kRows>;
  using Stage = TilePair<width>;
  extern __shared__ float4 shared[];  // [2][Stage::kChunks], own rows

  const Place place(blockIdx.x, tiles, g.key_heads, kBlockRows);
  const int own = warp_index() * kBand;  // within the block
  const std::int64_t first = place.begin + own;
  const auto copy = [&](const QueryWalk& walk, float4* to) {
    const std::int64_t offset = g.query_row(place.batch, walk.head, walk.begin);
    const std::int64_t statistic = g.statistic(place.batch, walk.head, walk.begin);
    Rows from{.data = at.q + offset,
              .stride = g.query_stride(),
              .count = static_cast<int>(g.queries - walk.begin),
              .width = g.width};
    QueryTile::copy(to + Stage::kFirst, from);
    from.data = at.dy + offset;
    QueryTile::copy(to + Stage::kSecond, from);
    if (warp_index() == 0)
      copy_statistics<kRows>(to + Stage::kLse, at.lse + statistic, from.count);
    if (warp_index() == 1)
      copy_statistics<kRows>(to + Stage::kDelta, at.delta + statistic, from.count);
  };

  QueryWalk walk(g, place, kRows);
  if (!walk.done())
    copy(walk, shared);
  const std::int64_t offset = g.key_row(place.batch, place.head, place.begin);
  const auto rows_of = [&](const float* x) {
    return Rows{.data = x + offset,
                .stride = g.key_stride(),
                .count = static_cast<int>(g.keys - place.begin),
                .width = g.width};
  };
  OwnPair<width> k_v(shared + 2 * Stage::kChunks);
  k_v.first[0].load(rows_of(at.k), own);
  k_v.second[0].load(rows_of(at.v), own);

  const float factor = static_cast<float>(g.scale * M_LOG2E);
  RowSums<width> dk[1] = {};
  RowSums<width> dv[1] = {};
  const std::int64_t row = first + lane_index() / 4;
  for (int stage = 0; !walk.done(); stage ^= 1) {
    const std::int64_t begin = walk.begin;
    const float4* const tile = shared + stage * Stage::kChunks;
    await_copies();
    __syncthreads();  // the tile is there, and nobody reads the one before it any more
    walk.advance();
    if (!walk.done())
      copy(walk, shared + (stage ^ 1) * Stage::kChunks);
    if (first >= g.keys || begin + kRows <= g.first_query(first))
      continue;
    Scores<width> p[1] = {};
    add_scores<width, kRows>(k_v.first, tile + Stage::kFirst, p);
    const int from[2] = {static_cast<int>(g.first_query(row) - begin),
                         static_cast<int>(g.first_query(row + 8) - begin)};
    const bool all = begin >= g.first_query(first + kBand - 1);
    const auto* const lse = reinterpret_cast<const float*>(tile + Stage::kLse);
    const auto* const delta = reinterpret_cast<const float*>(tile + Stage::kDelta);
    // Past the last query p is 1, but dy, delta and q are 0.
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = 8 * n + lane_index() % 4 * 2 + e % 2;
        const bool live = all || query >= from[e / 2];
        const float shift = static_cast<float>(M_LOG2E) * lse[query];
        p[0][n][e] = live ? exp2_fast(factor * p[0][n][e] - shift) : 0;
      }
    }
    add_weighted_rows<width, kRows>(p, tile + Stage::kSecond, dv);
    Scores<width> ds[1] = {};
    add_scores<width, kRows>(k_v.second, tile + Stage::kSecond, ds);
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = 8 * n + lane_index() % 4 * 2 + e % 2;
        ds[0][n][e] = p[0][n][e] * (ds[0][n][e] - delta[query]);
      }
    }
    add_weighted_rows<width, kRows>(ds, tile + Stage::kFirst, dk);
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row + 8 * half >= g.keys)
      continue;
    const std::int64_t to = g.key_row(place.batch, place.head, row + 8 * half);
    store_row<width>(dk[0], half, static_cast<float>(g.scale), at.dk + to, g.width);
    store_row<width>(dv[0], half, 1, at.dv + to, g.width);
  }
}

template <int width>
void run_backward(Cuda backend, const BackwardPointers& at, const Geometry& g) {
  Launch launch{.name = "attention_backward in tf32",
                .shared_bytes = TilePair<width>::kSharedBytes,
                .count = g.queries,
                .rows = kBlockRows,
                .heads = g.batch * g.heads};
  launch.run(backend, query_gradients_kernel<width>, at, g);
  launch.count = g.keys;
  launch.heads = g.batch * g.key_heads;
  launch.run(backend, key_gradients_kernel<width>, at, g);
}

}  // namespace
}  // namespace attention

bool tf32_attention_backward(Cuda backend, const AttentionBackward& args) {
  attention::BackwardPointers at{.q = elements<float>(args.q),
                                 .k = elements<float>(args.k),
                                 .v = elements<float>(args.v),
                                 .y = elements<float>(args.y),
                                 .dy = elements<float>(args.dy),
                                 .lse = elements<float>(args.lse),
                                 .delta = nullptr,
                                 .dq = elements<float>(args.dq),
                                 .dk = elements<float>(args.dk),
                                 .dv = elements<float>(args.dv)};
  const attention::Geometry g(args.q, args.k, args.options);
  if (!attention::allows_tf32(backend, g) ||
      !packable(at.q, at.k, at.v, at.y, at.dy, at.dq, at.dk, at.dv))
    return false;
  Tensor delta = Tensor::empty(args.lse.shape, args.lse.dtype, backend.stream);
  at.delta = delta.data<float>();
  if (g.width <= 64)
    attention::run_backward<64>(backend, at, g);
  else
    attention::run_backward<128>(backend, at, g);
  return true;
}

}  // namespace hew::kernels
