#include "kernels/hopper/bsr_product.h"

#include <limits>

#include "kernels/elementwise.h"
#include "kernels/hopper/bsr_product.cuh"
#include "kernels/hopper/tensor_map.h"
#include "kernels/hopper/tile_counter.h"
#include "kernels/launch.cuh"

namespace hew::kernels::hopper {
namespace {

// out[tokens, width] ← act(in[tokens, depth] · blocks + bias), or (in · blocks) ⊙ act'(pre) with
// the sums over its tokens
struct Product {
  ConstView in;
  ConstView values;
  const BsrWalk* walk;
  View out;
  ConstView pre = {};
  ConstView bias = {};
  Activation activation = Activation::kNone;
  View sums = {};
};

template <class Config>
CUtensorMap output_map(const ConstView& out) {
  if (!out)
    return {};
  return tensor_map({.data = out.data,
                     .rows = out.shape[0],
                     .cols = out.shape[1],
                     .stride = out.shape[1] * 2,
                     .box_rows = Config::kBufferTokens,
                     .box_cols = Config::kBox,
                     .swizzle = Config::kSwizzle});
}

template <class Config>
BsrProductMaps maps_of(const Product& p) {
  const std::int64_t b = Config::kBlock;
  return {.in = tensor_map({.data = p.in.data,
                            .rows = p.in.shape[0],
                            .cols = p.in.shape[1],
                            .stride = p.in.shape[1] * 2,
                            .box_rows = Config::kTokens,
                            .box_cols = Config::kDepth,
                            .swizzle = Config::kSwizzle}),
          .values = tensor_map({.data = p.values.data,
                                .rows = p.values.shape[0] * b,
                                .cols = b,
                                .stride = b * 2,
                                .box_rows = Config::kBox,
                                .box_cols = Config::kBox,
                                .swizzle = Config::kSwizzle}),
          .out = output_map<Config>(p.out),
          .pre = output_map<Config>(p.pre)};
}

template <class Config>
void launch(Cuda backend, const Product& p, const BsrTiling& tiling) {
  Tensor sums;  // of each tile
  if (p.sums) {
    sums =
        Tensor::empty({tiling.order.token_tiles, p.out.shape[1]}, DType::kFloat32, backend.stream);
  }
  const BsrProductArgs args{
      .groups = Config::kTogether ? p.walk->together : p.walk->alone,
      .order = tiling.order,
      .counters = backend.stream.state->get<TileCounter>(backend.stream).data(),
      .nnzb = static_cast<int>(p.values.shape[0]),
      .width = static_cast<int>(p.out.shape[1]),
      .bias = elements<BFloat16>(p.bias),
      .activation = p.activation,
      .keep_pre = !Config::kTransposed && p.pre,
      .sums = p.sums ? sums.data<float>() : nullptr};
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

template <bool transposed>
void multiply(Cuda backend, const Product& p) {
  const std::int64_t b = p.values.shape[1];
  const BsrTiling tiling =
      choose_tiling(*p.walk, {.tokens = p.in.shape[0],
                              .depth = p.in.shape[1],
                              .width = p.out.shape[1],
                              .block = b,
                              .nnzb = p.values.shape[0],
                              .multiprocessors = limits(backend).multiprocessors,
                              .outputs = p.pre ? 2 : 1,
                              .activation = p.activation});
  if (b == 32)
    return launch<BsrConfig<32, transposed, /*together=*/true>>(backend, p, tiling);
  if (b == 64 && tiling.together)
    return launch<BsrConfig<64, transposed, /*together=*/true>>(backend, p, tiling);
  if (b == 64)
    return launch<BsrConfig<64, transposed, /*together=*/false>>(backend, p, tiling);
  if (tiling.together)
    return launch<BsrConfig<128, transposed, /*together=*/true>>(backend, p, tiling);
  launch<BsrConfig<128, transposed, /*together=*/false>>(backend, p, tiling);
}

// sm_90a's code runs on 9.0 alone.
bool takes(Cuda backend, const BsrIndex& index, const ConstView& in, const ConstView& values,
           const ConstView& out) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2;
  return limits(backend).capability == 90 && index.schedule != nullptr &&
         index.schedule->by_rows.together.groups > 0 && index.nnzb > 0 && in.shape[0] > 0 &&
         in.dtype == DType::kBFloat16 && movable(in) && movable(values) && movable(out) &&
         (index.nnzb + 1) * index.block < kMost && in.shape[0] < kMost &&
         ceil_div(in.shape[0], 128) * std::max(index.block_rows(), index.block_cols()) < kMost;
}

}  // namespace

bool takes(Cuda backend, const BsrForwardArgs& args) {
  return takes(backend, args.index, args.x, args.values, args.y) &&
         (!args.pre || movable(args.pre));
}

bool takes(Cuda backend, const BsrInputGradientArgs& args) {
  return takes(backend, args.index, args.dy, args.values, args.dx) &&
         (args.activation == Activation::kNone || movable(args.pre));
}

void bsr_forward(Cuda backend, const BsrForwardArgs& args) {
  multiply</*transposed=*/false>(backend, {.in = args.x,
                                           .values = args.values,
                                           .walk = &args.index.schedule->by_rows,
                                           .out = args.y,
                                           .pre = args.pre,
                                           .bias = args.bias,
                                           .activation = args.activation});
}

void bsr_input_gradient(Cuda backend, const BsrInputGradientArgs& args) {
  const bool activated = args.activation != Activation::kNone;
  multiply</*transposed=*/true>(backend, {.in = args.dy,
                                          .values = args.values,
                                          .walk = &args.index.schedule->by_columns,
                                          .out = args.dx,
                                          .pre = activated ? args.pre : ConstView{},
                                          .activation = args.activation,
                                          .sums = args.dbias});
}

}  // namespace hew::kernels::hopper
