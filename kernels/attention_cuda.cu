#include <type_traits>

#include "kernels/attention.h"
#include "kernels/attention_cudnn.h"
#include "kernels/attention_rows_backward.cuh"
#include "kernels/attention_settings.h"
#include "kernels/attention_tf32.h"
#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace attention::rows {
namespace {

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

}  // namespace
}  // namespace attention::rows

namespace {

namespace rows = attention::rows;
using attention::Geometry;

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
  const rows::ForwardPointers<D> at{.q = elements<T>(args.q),
                                    .k = elements<T>(args.k),
                                    .v = elements<T>(args.v),
                                    .y = elements<T>(args.y),
                                    .lse = elements<A>(args.lse)};
  rows::by_columns(args.q.shape[3], [&](auto columns) {
    const attention::Launch launch{
        .name = "attention",
        .shared_bytes = rows::shared_bytes<A, columns.value>(/*own_arrays=*/1),
        .count = g.queries,
        .rows = rows::kBlockRows<A>,
        .heads = g.batch * g.heads};
    launch.run(backend, rows::forward_kernel<D, columns.value>, at, g);
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
  const rows::BackwardPointers<D> at{.q = elements<T>(args.q),
                                     .k = elements<T>(args.k),
                                     .v = elements<T>(args.v),
                                     .dy = elements<T>(args.dy),
                                     .lse = elements<A>(args.lse),
                                     .delta = delta.data<A>(),
                                     .dq = elements<T>(args.dq),
                                     .dk = elements<T>(args.dk),
                                     .dv = elements<T>(args.dv)};
  if (delta.numel() > 0) {
    rows::delta_kernel<<<grid_for(backend, delta.numel(), attention::kWarps), attention::kThreads,
                         0, native(backend)>>>(elements<T>(args.y), at.dy, delta.data<A>(), g);
    check_launch("attention_backward");
  }
  rows::by_columns(args.q.shape[3], [&](auto columns) {
    attention::Launch launch{.name = "attention_backward",
                             .shared_bytes = rows::shared_bytes<A, columns.value>(/*own_arrays=*/2),
                             .count = g.queries,
                             .rows = rows::kBlockRows<A>,
                             .heads = g.batch * g.heads};
    launch.run(backend, rows::query_gradients_kernel<D, columns.value>, at, g);
    launch.count = g.keys;
    launch.heads = g.batch * g.key_heads;
    launch.run(backend, rows::key_gradients_kernel<D, columns.value>, at, g);
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
