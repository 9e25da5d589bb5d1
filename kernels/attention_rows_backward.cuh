#pragma once

#include "kernels/attention_rows.cuh"

namespace hew::kernels::attention::rows {

template <class D>
struct BackwardPointers {
  const D* q;
  const D* k;
  const D* v;
  const D* dy;
  const ComputeType<D>* lse;
  const ComputeType<D>* delta;  // [B, H, Tq], dy·y
  D* dq;
  D* dk;
  D* dv;
};

// delta[b, h, t] ← dy[b, t, h]·y[b, t, h] = Σ_j p[t, j]·(dy[t]·v[j]). A warp a row.
template <class D>
__global__ void delta_kernel(const D* y, const D* dy, ComputeType<D>* delta, const Geometry g) {
  const std::int64_t rows = g.batch * g.queries * g.heads;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp_index(); row < rows;
       row += stride) {
    ComputeType<D> sum = 0;
    for (int d = lane_index(); d < g.width; d += kWarp) {
      sum += widen(dy[row * g.width + d]) * widen(y[row * g.width + d]);
    }
    sum = warp_sum(sum);
    const std::int64_t b = row / g.heads / g.queries;
    const std::int64_t t = row / g.heads % g.queries;
    if (lane_index() == 0)
      delta[g.statistic(b, row % g.heads, t)] = sum;
  }
}

// dq[i] ← Σ_j ds[i, j]·k[j] with ds = scale·p·(dy·v − delta).
template <class D, int columns>
__global__ void __launch_bounds__(kThreads)
    query_gradients_kernel(const BackwardPointers<D> at, const Geometry g, std::int64_t tiles) {
  using A = ComputeType<D>;
  constexpr int kRows = kOwnRows<A>;
  constexpr int kOwn = kBlockRows<A> * kWidth<columns>;
  extern __shared__ __align__(16) unsigned char shared[];
  A* const queries = reinterpret_cast<A*>(shared);  // [kBlockRows, kWidth]
  A* const dy = queries + kOwn;                     // [kBlockRows, kWidth]
  A* const tile = dy + kOwn;                        // [kTileRows, kPitch]
  const int own = warp_index() * kRows * kWidth<columns>;
  const A* const row = tile + lane_index() * kPitch<columns>;

  const Place place(blockIdx.x, tiles, g.heads, kBlockRows<A>);
  const std::int64_t key_head = place.head / g.group();
  const std::int64_t first = place.begin + warp_index() * kRows;
  const std::int64_t begin_offset = g.query_row(place.batch, place.head, place.begin);
  load_rows<kBlockRows<A>, columns, kWidth<columns>>(at.q + begin_offset, g.query_stride(),
                                                     g.queries - place.begin, g.width, queries);
  load_rows<kBlockRows<A>, columns, kWidth<columns>>(at.dy + begin_offset, g.query_stride(),
                                                     g.queries - place.begin, g.width, dy);

  const A scale = static_cast<A>(g.scale);
  const std::int64_t statistics = g.statistic(place.batch, place.head, first);
  A lse[kRows];
  A delta[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    lse[r] = first + r < g.queries ? at.lse[statistics + r] : A(0);
    delta[r] = first + r < g.queries ? at.delta[statistics + r] : A(0);
  }

  A sums[kRows][columns] = {};
  const std::int64_t end = g.visible(place.begin + kBlockRows<A> - 1);
  for (std::int64_t begin = 0; begin < end; begin += kTileRows) {
    const std::int64_t offset = g.key_row(place.batch, key_head, begin);
    A dp[kRows];
    load_rows<kTileRows, columns, kPitch<columns>>(at.v + offset, g.key_stride(), g.keys - begin,
                                                   g.width, tile);
    multiply_rows<columns>(dy + own, row, g.width, dp);
    A ds[kRows];
    load_rows<kTileRows, columns, kPitch<columns>>(at.k + offset, g.key_stride(), g.keys - begin,
                                                   g.width, tile);
    multiply_rows<columns>(queries + own, row, g.width, ds);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool seen = first + r < g.queries && begin + lane_index() < g.visible(first + r);
      const A p = seen ? exp(scale * ds[r] - lse[r]) : A(0);
      ds[r] = seen ? scale * p * (dp[r] - delta[r]) : A(0);
    }
    add_weighted_rows<columns>(tile, ds, sums);
  }

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first + r < g.queries) {
      store_row<columns>(at.dq + g.query_row(place.batch, place.head, first + r), g.width, A(1),
                         sums[r]);
    }
  }
}

// dk[j] ← Σ_i ds[i, j]·q[i] and dv[j] ← Σ_i p[i, j]·dy[i], over the query heads of the group in
// order.
template <class D, int columns>
__global__ void __launch_bounds__(kThreads)
    key_gradients_kernel(const BackwardPointers<D> at, const Geometry g, std::int64_t tiles) {
  using A = ComputeType<D>;
  constexpr int kRows = kOwnRows<A>;
  constexpr int kOwn = kBlockRows<A> * kWidth<columns>;
  extern __shared__ __align__(16) unsigned char shared[];
  A* const keys = reinterpret_cast<A*>(shared);  // [kBlockRows, kWidth]
  A* const values = keys + kOwn;                 // [kBlockRows, kWidth]
  A* const tile = values + kOwn;                 // [kTileRows, kPitch]
  const int own = warp_index() * kRows * kWidth<columns>;
  const A* const row = tile + lane_index() * kPitch<columns>;

  const Place place(blockIdx.x, tiles, g.key_heads, kBlockRows<A>);
  const std::int64_t first = place.begin + warp_index() * kRows;
  const std::int64_t begin_offset = g.key_row(place.batch, place.head, place.begin);
  load_rows<kBlockRows<A>, columns, kWidth<columns>>(at.k + begin_offset, g.key_stride(),
                                                     g.keys - place.begin, g.width, keys);
  load_rows<kBlockRows<A>, columns, kWidth<columns>>(at.v + begin_offset, g.key_stride(),
                                                     g.keys - place.begin, g.width, values);

  const A scale = static_cast<A>(g.scale);
  A dk[kRows][columns] = {};
  A dv[kRows][columns] = {};
  for (std::int64_t member = 0; member < g.group(); ++member) {
    const std::int64_t head = place.head * g.group() + member;
    const std::int64_t statistics = g.statistic(place.batch, head, 0);
    for (std::int64_t begin = g.first_query(place.begin); begin < g.queries; begin += kTileRows) {
      const std::int64_t offset = g.query_row(place.batch, head, begin);
      const std::int64_t query = begin + lane_index();
      const A lse = query < g.queries ? at.lse[statistics + query] : A(0);
      const A delta = query < g.queries ? at.delta[statistics + query] : A(0);
      A p[kRows];
      load_rows<kTileRows, columns, kPitch<columns>>(at.q + offset, g.query_stride(),
                                                     g.queries - begin, g.width, tile);
      multiply_rows<columns>(keys + own, row, g.width, p);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const bool seen = query < g.queries && first + r < g.visible(query);
        p[r] = seen ? exp(scale * p[r] - lse) : A(0);
      }
      A ds[kRows];
      load_rows<kTileRows, columns, kPitch<columns>>(at.dy + offset, g.query_stride(),
                                                     g.queries - begin, g.width, tile);
      multiply_rows<columns>(values + own, row, g.width, ds);
      add_weighted_rows<columns>(tile, p, dv);
#pragma unroll
      for (int r = 0; r < kRows; ++r) ds[r] = scale * p[r] * (ds[r] - delta);
      // The queries once more: a second tile would not fit beside wide heads.
      load_rows<kTileRows, columns, kPitch<columns>>(at.q + offset, g.query_stride(),
                                                     g.queries - begin, g.width, tile);
      add_weighted_rows<columns>(tile, ds, dk);
    }
  }

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first + r < g.keys) {
      const std::int64_t to = g.key_row(place.batch, place.head, first + r);
      store_row<columns>(at.dk + to, g.width, A(1), dk[r]);
      store_row<columns>(at.dv + to, g.width, A(1), dv[r]);
    }
  }
}

}  // namespace hew::kernels::attention::rows
