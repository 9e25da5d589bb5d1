#include <array>
#include <type_traits>

#include "kernels/attention.h"
#include "kernels/attention_cudnn.h"
#include "kernels/attention_geometry.cuh"
#include "kernels/attention_settings.h"
#include "kernels/attention_tf32.h"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

// Where neither cuDNN nor tf32 takes a call: a warp owns a few rows (of queries; of keys in
// key_gradients_kernel) and walks over tiles of 32 rows of the other side in shared memory, a row a
// lane. Scores live in registers, and every sum is taken by one thread or one warp in a fixed
// order.

namespace hew::kernels {
namespace {

using attention::Geometry;
using attention::Place;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kTileRows = kWarp;  // a row a lane
constexpr int kMaxColumns = 8;    // head widths up to 32·kMaxColumns

// Rows a warp owns: as many as leave room in the registers and in 99 KB of shared memory.
template <class A>
inline constexpr int kOwnRows = sizeof(A) == 8 ? 2 : 4;
template <class A>
inline constexpr int kBlockRows = kWarps* kOwnRows<A>;

// Rows of at most 32·columns elements in shared memory, padded with zeros to that width. Tiles have
// one element more a row, so that the lanes of a warp read a column from different banks.
template <int columns>
inline constexpr int kWidth = kWarp* columns;
template <int columns>
inline constexpr int kPitch = kWidth<columns> + 1;

template <class A, int columns>
constexpr std::size_t shared_bytes(int own_arrays) {
  return (own_arrays * kBlockRows<A> * kWidth<columns> + kTileRows * kPitch<columns>)*sizeof(A);
}

__device__ inline int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ inline int warp_index() {
  return static_cast<int>(threadIdx.x) / kWarp;
}

// to[row, column] ← from[row·stride + column] for row < rows and column < width, 0 elsewhere in
// [to_rows, 32·columns]. The whole block calls it and sees the result.
template <int to_rows, int columns, int pitch, class D>
__device__ void load_rows(const D* from, std::int64_t stride, std::int64_t rows, int width,
                          ComputeType<D>* to) {
  __syncthreads();  // the readers of what was there are done
  for (int row = warp_index(); row < to_rows; row += kWarps) {
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      const int column = lane_index() + kWarp * c;
      to[row * pitch + column] =
          row < rows && column < width ? widen(from[row * stride + column]) : ComputeType<D>(0);
    }
  }
  __syncthreads();
}

// products[r] ← own[r]·row; own is the warp's [n, 32·columns], row the lane's row of a tile.
template <int columns, int n, class A>
__device__ void multiply_rows(const A* own, const A* row, int width, A (&products)[n]) {
  constexpr int kStep = kPackSize<A>;
#pragma unroll
  for (int r = 0; r < n; ++r) products[r] = 0;
#pragma unroll 4
  for (int d = 0; d < width; d += kStep) {
    A x[kStep];
#pragma unroll
    for (int i = 0; i < kStep; ++i) x[i] = row[d + i];
#pragma unroll
    for (int r = 0; r < n; ++r) {
      A y[kStep];
      load<A, kStep>(own + r * kWidth<columns> + d, y);
#pragma unroll
      for (int i = 0; i < kStep; ++i) products[r] += x[i] * y[i];
    }
  }
}

// sums[r, c] += Σ_j weights[r] of lane j · tile[j, lane + 32·c].
template <int columns, int n, class A>
__device__ void add_weighted_rows(const A* tile, const A (&weights)[n], A (&sums)[n][columns]) {
#pragma unroll 4
  for (int j = 0; j < kTileRows; ++j) {
    A weight[n];
#pragma unroll
    for (int r = 0; r < n; ++r) weight[r] = __shfl_sync(0xffffffffU, weights[r], j);
#pragma unroll
    for (int c = 0; c < columns; ++c) {
      const A x = tile[j * kPitch<columns> + lane_index() + kWarp * c];
#pragma unroll
      for (int r = 0; r < n; ++r) sums[r][c] += weight[r] * x;
    }
  }
}

// to[lane + 32·c] ← factor·sums[c] within the width.
template <int columns, class D>
__device__ void store_row(D* to, int width, ComputeType<D> factor,
                          const ComputeType<D> (&sums)[columns]) {
#pragma unroll
  for (int c = 0; c < columns; ++c) {
    const int column = lane_index() + kWarp * c;
    if (column < width)
      to[column] = narrow<D>(factor * sums[c]);
  }
}

template <class D>
struct ForwardPointers {
  const D* q;
  const D* k;
  const D* v;
  D* y;
  ComputeType<D>* lse;
};

template <class D, int columns>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const ForwardPointers<D> at, const Geometry g, std::int64_t tiles) {
  using A = ComputeType<D>;
  constexpr int kRows = kOwnRows<A>;
  extern __shared__ __align__(16) unsigned char shared[];
  A* const queries = reinterpret_cast<A*>(shared);            // [kBlockRows, kWidth]
  A* const tile = queries + kBlockRows<A> * kWidth<columns>;  // [kTileRows, kPitch]
  const A* const own = queries + warp_index() * kRows * kWidth<columns>;
  const A* const row = tile + lane_index() * kPitch<columns>;

  const Place place(blockIdx.x, tiles, g.heads, kBlockRows<A>);
  const std::int64_t key_head = place.head / g.group();
  const std::int64_t first = place.begin + warp_index() * kRows;
  load_rows<kBlockRows<A>, columns, kWidth<columns>>(
      at.q + g.query_row(place.batch, place.head, place.begin), g.query_stride(),
      g.queries - place.begin, g.width, queries);

  const A scale = static_cast<A>(g.scale);
  A sums[kRows][columns] = {};
  A largest[kRows];
  A total[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) largest[r] = -static_cast<A>(INFINITY);

  const std::int64_t end = g.visible(place.begin + kBlockRows<A> - 1);
  for (std::int64_t begin = 0; begin < end; begin += kTileRows) {
    const std::int64_t offset = g.key_row(place.batch, key_head, begin);
    load_rows<kTileRows, columns, kPitch<columns>>(at.k + offset, g.key_stride(), g.keys - begin,
                                                   g.width, tile);
    A p[kRows];
    multiply_rows<columns>(own, row, g.width, p);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // Every row sees key 0, so that `largest` is finite from the first tile on.
      const bool seen = begin + lane_index() < g.visible(first + r);
      const A score = seen ? scale * p[r] : -static_cast<A>(INFINITY);
      const A before = largest[r];
      largest[r] = warp_max(score > before || score != score ? score : before);
      const A shrink = exp(before - largest[r]);
      p[r] = exp(score - largest[r]);
      total[r] = total[r] * shrink + warp_sum(p[r]);
#pragma unroll
      for (int c = 0; c < columns; ++c) sums[r][c] *= shrink;
    }
    load_rows<kTileRows, columns, kPitch<columns>>(at.v + offset, g.key_stride(), g.keys - begin,
                                                   g.width, tile);
    add_weighted_rows<columns>(tile, p, sums);
  }

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first + r >= g.queries)
      continue;
    store_row<columns>(at.y + g.query_row(place.batch, place.head, first + r), g.width,
                       A(1) / total[r], sums[r]);
    if (lane_index() == 0) {
      at.lse[g.statistic(place.batch, place.head, first + r)] = largest[r] + log(total[r]);
    }
  }
}

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

// Calls body(columns) with the fewest columns of 32 that hold a head, an integral constant.
template <class Body>
void by_columns(std::int64_t width, const Body& body) {
  require<ShapeError>(width <= kWarp * kMaxColumns,
                      "[attention] heads are {} wide, at most {} on a GPU", width,
                      kWarp * kMaxColumns);
  if (width <= kWarp)
    return body(std::integral_constant<int, 1>{});
  if (width <= 2 * kWarp)
    return body(std::integral_constant<int, 2>{});
  if (width <= 4 * kWarp)
    return body(std::integral_constant<int, 4>{});
  return body(std::integral_constant<int, kMaxColumns>{});
}

// One block for every kBlockRows rows of every head; a kernel is given `pointers`, sizes and the
// number of such blocks a head.
template <class A, class Pointers>
void launch(Cuda backend, const char* name, void (*kernel)(Pointers, Geometry, std::int64_t),
            std::size_t bytes, const Pointers& pointers, const Geometry& g, std::int64_t rows,
            std::int64_t heads) {
  const std::int64_t tiles = ceil_div(rows, kBlockRows<A>);
  const std::int64_t blocks = g.batch * heads * tiles;
  if (blocks == 0)
    return;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(bytes)),
              "cudaFuncSetAttribute");
  kernel<<<static_cast<unsigned int>(blocks), kThreads, bytes, native(backend)>>>(pointers, g,
                                                                                  tiles);
  check_launch(name);
}

bool may_ask_cudnn(Cuda backend) {
  return !backend.stream.state->get<AttentionSettings>(backend.stream).own_kernel;
}

// Whether faster kernels that exist for T alone have done it.
template <class T>
bool done_on_tensor_cores(Cuda backend, const AttentionForward& args) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return may_ask_cudnn(backend) && cudnn_attention_forward(args, backend.stream);
  } else {
    return std::is_same_v<T, float> && tf32_attention_forward(backend, args);
  }
}
template <class T>
bool done_on_tensor_cores(Cuda backend, const AttentionBackward& args) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return may_ask_cudnn(backend) && cudnn_attention_backward(args, backend.stream);
  } else {
    return std::is_same_v<T, float> && tf32_attention_backward(backend, args);
  }
}

}  // namespace

template <class T>
void attention_forward(Cuda backend, const AttentionForward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  if (done_on_tensor_cores<T>(backend, args))
    return;
  const Geometry g(args.q, args.k, args.options);
  const ForwardPointers<D> at{.q = elements<T>(args.q),
                              .k = elements<T>(args.k),
                              .v = elements<T>(args.v),
                              .y = elements<T>(args.y),
                              .lse = elements<A>(args.lse)};
  by_columns(args.q.shape[3], [&](auto columns) {
    launch<A>(backend, "attention", forward_kernel<D, columns.value>,
              shared_bytes<A, columns.value>(/*own_arrays=*/1), at, g, g.queries, g.heads);
  });
}

template <class T>
void attention_backward(Cuda backend, const AttentionBackward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  if (done_on_tensor_cores<T>(backend, args))
    return;
  const Geometry g(args.q, args.k, args.options);
  Tensor delta = Tensor::empty(args.lse.shape, args.lse.dtype, backend.stream);
  const BackwardPointers<D> at{.q = elements<T>(args.q),
                               .k = elements<T>(args.k),
                               .v = elements<T>(args.v),
                               .dy = elements<T>(args.dy),
                               .lse = elements<A>(args.lse),
                               .delta = delta.data<A>(),
                               .dq = elements<T>(args.dq),
                               .dk = elements<T>(args.dk),
                               .dv = elements<T>(args.dv)};
  if (delta.numel() > 0) {
    delta_kernel<<<grid_for(backend, delta.numel(), kWarps), kThreads, 0, native(backend)>>>(
        elements<T>(args.y), at.dy, delta.data<A>(), g);
    check_launch("attention_backward");
  }
  by_columns(args.q.shape[3], [&](auto columns) {
    constexpr std::size_t kBytes = shared_bytes<A, columns.value>(/*own_arrays=*/2);
    launch<A>(backend, "attention_backward", query_gradients_kernel<D, columns.value>, kBytes, at,
              g, g.queries, g.heads);
    launch<A>(backend, "attention_backward", key_gradients_kernel<D, columns.value>, kBytes, at, g,
              g.keys, g.key_heads);
  });
}

#define HEW_INSTANTIATE(T)                                           \
  template void attention_forward<T>(Cuda, const AttentionForward&); \
  template void attention_backward<T>(Cuda, const AttentionBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
HEW_INSTANTIATE(BFloat16)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
