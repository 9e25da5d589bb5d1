#pragma once

#include "kernels/elementwise.h"
#include "kernels/hopper/bsr_product.cuh"
#include "kernels/hopper/bsr_product_launch.h"
#include "kernels/hopper/tensor_map.h"
#include "kernels/hopper/thread_block_counters.h"
#include "kernels/launch.cuh"

/// What queues a product, once for all types: the matrices as boxes for TMA, the tiling, the
/// kernel.
namespace hew::kernels::hopper {

/// Boxes [box_rows, Config::kRow] of a row-major matrix; tf32: what is multiplied, and is rounded
/// to that where it is float.
template <class Config>
CUtensorMap boxes_of(const void* data, std::int64_t rows, std::int64_t cols, int box_rows,
                     bool tf32, int fetched_bytes = 256) {
  constexpr bool kFloat = Config::kElementBytes == 4;
  return tensor_map({.data = data,
                     .dtype = kFloat ? DType::kFloat32 : DType::kBFloat16,
                     .tf32 = kFloat && tf32,
                     .rows = rows,
                     .cols = cols,
                     .stride = cols * Config::kElementBytes,
                     .box_rows = box_rows,
                     .box_cols = Config::kRow,
                     .swizzle = Config::kSwizzle,
                     .fetched_bytes = fetched_bytes});
}

template <class Config>
CUtensorMap output_map(const ConstView& out) {
  if (!out)
    return {};
  return boxes_of<Config>(out.data, out.shape[0], out.shape[1], Config::kBufferTokens,
                          /*tf32=*/false);
}

// What an ending joins with the output: rows of blocks that lie beside each other are not made at a
// time.
template <class Config>
CUtensorMap given_map(const ConstView& given) {
  if (!given)
    return {};
  return boxes_of<Config>(given.data, given.shape[0], given.shape[1], Config::kBufferTokens,
                          /*tf32=*/false, fetched_bytes(Config::kBlock * Config::kElementBytes));
}

template <class Config>
BsrProductMaps maps_of(const BsrProductCall& p) {
  const std::int64_t b = Config::kBlock;
  const int fetched =
      fetched_bytes(b * Config::kElementBytes, p.walk->live_columns, ceil_div(p.in.shape[1], b));
  return {.in = boxes_of<Config>(p.in.data, p.in.shape[0], p.in.shape[1], Config::kBoxTokens,
                                 /*tf32=*/true, fetched),
          .values = boxes_of<Config>(p.values.data, p.values.shape[0] * b, b, Config::kBox,
                                     /*tf32=*/true),
          .out = output_map<Config>(p.out),
          .second_out = output_map<Config>(p.second_out),
          .given = given_map<Config>(p.given),
          .second_given = given_map<Config>(p.second_given)};
}

// Matrices [tokens, width] that are moved.
inline int outputs_of(const BsrProductCall& p) {
  return 1 + (p.second_out ? 1 : 0) + (p.given ? 1 : 0) + (p.second_given ? 1 : 0);
}

// What is computed at the end.
inline Activation activation_of(const BsrProductCall& p) {
  const bool gated = p.ending == BsrEnding::kGate || p.ending == BsrEnding::kGated;
  return gated ? Activation::kSilu : p.activation;
}

// Undefined where boxes are loaded instead.
struct PackedOperands {
  Tensor in;
  Tensor values;
};

// From a multiple of a run's bytes on, which divide those of the pieces that the arena maps: a bulk
// copy over the edge of a piece is one that memcheck reports.
inline Tensor runs_of(const Shape& shape, std::int64_t run_bytes, DType dtype,
                      const Stream& stream) {
  const std::int64_t count = shape.numel();
  const std::int64_t element = size_of(dtype);
  const Tensor all = Tensor::empty({count + run_bytes / element}, dtype, stream);
  const auto address = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(all.view().data));
  const std::int64_t skipped = ceil_div(address, run_bytes) * run_bytes - address;
  return all.rows(skipped / element, count).reshape(shape);
}

template <class Config>
PackedOperands pack(Cuda backend, const BsrProductCall& p, const BsrTiling& tiling) {
  PackedOperands out;
  if constexpr (Config::kPacks) {
    if (packs_input(tiling.packing)) {
      const std::int64_t columns = ceil_div(p.in.shape[1], Config::kBlock);
      out.in = runs_of({tiling.order.token_tiles, columns, Config::kTokens, Config::kBlock},
                       Config::kInputBytes, p.in.dtype, backend.stream);
      pack_tokens(backend, p.in, out.in);
    }
    if (packs_values(tiling.packing)) {
      out.values = runs_of(p.values.shape, Config::kPartBytes, p.values.dtype, backend.stream);
      pack_blocks(backend, p.values, out.values);
    }
  }
  return out;
}

// Undefined where no row is cut.
struct PartSums {
  Tensor sums;
  Tensor counts;
};

template <class Config>
PartSums part_sums(Cuda backend, const RowGroups& groups, std::int64_t token_tiles) {
  if (groups.cut_rows == 0)
    return {};
  const std::int64_t tiles = groups.cut_rows * token_tiles * Config::kConsumingWarpgroups;
  return {.sums = Tensor::empty({tiles, groups.most_parts, BsrParts<Config>::kElements},
                                DType::kFloat32, backend.stream),
          .counts = Tensor::zeros({tiles}, DType::kInt32, backend.stream)};
}

inline const std::uint8_t* bytes_of(const Tensor& tensor) {
  return tensor ? static_cast<const std::uint8_t*>(tensor.view().data) : nullptr;
}

template <class Config>
void launch(Cuda backend, const BsrProductCall& p, const BsrTiling& tiling) {
  const PackedOperands packed = pack<Config>(backend, p, tiling);
  Tensor sums;  // of each tile
  if (p.sums) {
    sums =
        Tensor::empty({tiling.order.token_tiles, p.out.shape[1]}, DType::kFloat32, backend.stream);
  }
  const RowGroups& groups = Config::kTile == BsrTile::kTall    ? p.walk->tall
                            : Config::kTile == BsrTile::kAlone ? p.walk->alone
                                                               : p.walk->together;
  PartSums parts = part_sums<Config>(backend, groups, tiling.order.token_tiles);
  const typename Config::Args args{
      .groups = groups,
      .order = tiling.order,
      .counters = backend.stream.state->get<ThreadBlockCounters>(backend.stream).tiles(),
      .width = static_cast<int>(p.out.shape[1]),
      .packed_in = bytes_of(packed.in),
      .packed_values = bytes_of(packed.values),
      .columns = static_cast<int>(ceil_div(p.in.shape[1], Config::kBlock)),
      .in = static_cast<const std::uint8_t*>(p.in.data),
      .values = static_cast<const std::uint8_t*>(p.values.data),
      .row_bytes = p.in.shape[1] * Config::kElementBytes,
      .tokens = static_cast<int>(p.in.shape[0]),
      .bias = reinterpret_cast<const typename Config::Element*>(p.bias.data),
      .ending = p.ending,
      .activation = p.activation,
      .keep_pre = !Config::kGradient && p.second_out,
      .sums = p.sums ? sums.data<float>() : nullptr,
      .part_sums = parts.sums ? parts.sums.data<float>() : nullptr,
      .part_counts = parts.counts ? parts.counts.data<std::int32_t>() : nullptr};
  const auto kernel = bsr_product_kernel<Config>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   Config::kSharedBytes),
              "cudaFuncSetAttribute");
  const int blocks = std::min(limits(backend).multiprocessors, args.order.count());
  kernel<<<static_cast<unsigned int>(blocks), kProductThreads, Config::kSharedBytes,
           native(backend)>>>(maps_of<Config>(p), args);
  check_launch("bsr product");
  if (p.sums)
    sum_leading<float>(backend, sums, p.sums);
}

// Of blocks whose rows may be short.
template <class Element, int block, bool gradient, BsrTile tile>
void launch_short(Cuda backend, const BsrProductCall& p, const BsrTiling& tiling) {
  if constexpr (sizeof(Element) == 2) {
    if (tiling.packing == BsrPacking::kCopied)
      return launch<BsrConfig<Element, block, gradient, tile, /*copies=*/true>>(backend, p, tiling);
  }
  launch<BsrConfig<Element, block, gradient, tile>>(backend, p, tiling);
}

template <class Element, bool gradient>
void launch_for_block(Cuda backend, const BsrProductCall& p) {
  using enum BsrTile;
  const std::int64_t b = p.values.shape[1];
  const BsrTiling tiling = choose_tiling(*p.walk,
                                         {.tokens = p.in.shape[0],
                                          .depth = p.in.shape[1],
                                          .width = p.out.shape[1],
                                          .block = b,
                                          .nnzb = p.values.shape[0],
                                          .element_bytes = sizeof(Element),
                                          .multiprocessors = limits(backend).multiprocessors,
                                          .outputs = outputs_of(p),
                                          .activation = activation_of(p)},
                                         {.packing = p.packing, .tall = p.tall});
  if (b == 16)
    return launch_short<Element, 16, gradient, kTogether>(backend, p, tiling);
  if constexpr (packs(32, sizeof(Element))) {
    if (tiling.tile == kTall)
      return launch_short<Element, 32, gradient, kTall>(backend, p, tiling);
  }
  if (b == 32)
    return launch_short<Element, 32, gradient, kTogether>(backend, p, tiling);
  if (b == 64 && tiling.tile == kTogether)
    return launch<BsrConfig<Element, 64, gradient, kTogether>>(backend, p, tiling);
  if (b == 64)
    return launch<BsrConfig<Element, 64, gradient, kAlone>>(backend, p, tiling);
  if (tiling.tile == kTogether)
    return launch<BsrConfig<Element, 128, gradient, kTogether>>(backend, p, tiling);
  launch<BsrConfig<Element, 128, gradient, kAlone>>(backend, p, tiling);
}

template <class Element>
void launch_product(Cuda backend, const BsrProductCall& call, bool gradient) {
  if (gradient)
    return launch_for_block<Element, /*gradient=*/true>(backend, call);
  launch_for_block<Element, /*gradient=*/false>(backend, call);
}

}  // namespace hew::kernels::hopper
