#include "kernels/hopper/bsr_mlp.h"

#include <algorithm>
#include <limits>

#include "kernels/bsr_mlp_schedule.h"
#include "kernels/hopper/bsr_mlp.cuh"
#include "kernels/hopper/tensor_map.h"
#include "kernels/launch.cuh"

namespace hew::kernels::hopper {
namespace {

CUtensorMap strips_of(const ConstView& matrix, int tokens) {
  return tensor_map({.data = matrix.data,
                     .rows = matrix.shape[0],
                     .cols = matrix.shape[1],
                     .stride = matrix.shape[1] * 2,
                     .box_rows = tokens,
                     .box_cols = kMlpStrip});
}

template <class Config>
CUtensorMap boxes_of(const ConstView& values) {
  const std::int64_t b = values.shape[1];
  return tensor_map({.data = values.data,
                     .rows = values.shape[0] * b,
                     .cols = b,
                     .stride = b * 2,
                     .box_rows = Config::kShareRows,
                     .box_cols = Config::kDepth,
                     .swizzle = Config::kBlockSwizzle});
}

const __nv_bfloat16* bias_of(const ConstView& bias) {
  return reinterpret_cast<const __nv_bfloat16*>(bias.data);
}

template <class Config>
void launch(Cuda backend, const BsrMlpArgs& args) {
  const MlpProgram& program = args.schedule->program();
  const std::int64_t tokens = args.x.shape[0];
  MlpArgs params{
      .steps = args.schedule->steps(),
      .begin = {},
      .strips = {},
      .hidden_strips = program.hidden_strips,
      .in_strips = static_cast<int>(ceil_div(args.up.cols, kMlpStrip)),
      .tiles = static_cast<int>(kMlpCluster * ceil_div(tokens, kMlpCluster * Config::kTokens)),
      .hidden = static_cast<int>(args.up.rows),
      .width = static_cast<int>(args.down.rows),
      .activation = args.activation,
      .up_bias = bias_of(args.up_bias),
      .down_bias = bias_of(args.down_bias)};
  std::copy(program.begin.begin(), program.begin.end(), params.begin);
  for (std::size_t g = 0; g < kMlpWarpgroups; ++g)
    std::copy(program.strips[g].begin(), program.strips[g].end(), params.strips[g]);
  const MlpMaps maps{.in = strips_of(args.x, Config::kTokens),
                     .up = boxes_of<Config>(args.up_values),
                     .down = boxes_of<Config>(args.down_values),
                     .out = strips_of(args.y, Config::kBoxTokens)};
  const auto kernel = bsr_mlp_kernel<Config>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   Config::kSharedBytes),
              "cudaFuncSetAttribute");
  const int blocks =
      std::min(limits(backend).multiprocessors / kMlpCluster * kMlpCluster, params.tiles);
  kernel<<<static_cast<unsigned int>(blocks), kMlpThreads, Config::kSharedBytes, native(backend)>>>(
      maps, params);
  check_launch("bsr_mlp");
}

template <bool wide>
void launch_for_block(Cuda backend, const BsrMlpArgs& args) {
  if (args.up.block == 32)
    return launch<MlpConfig<wide, 32>>(backend, args);
  launch<MlpConfig<wide, 64>>(backend, args);
}

}  // namespace

bool takes(Cuda backend, const BsrMlpArgs& args) {
  constexpr int kHopper = 90;  // sm_90a's code runs on 9.0 alone
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2;
  return limits(backend).capability == kHopper && args.schedule != nullptr &&
         args.x.dtype == DType::kBFloat16 && args.x.shape[0] > 0 && args.x.shape[0] < kMost &&
         movable(args.x) && movable(args.up_values) && movable(args.down_values) && movable(args.y);
}

void bsr_mlp_forward(Cuda backend, const BsrMlpArgs& args) {
  if (args.schedule->program().tile.tokens == kMlpWide.tokens)
    return launch_for_block</*wide=*/true>(backend, args);
  launch_for_block</*wide=*/false>(backend, args);
}

}  // namespace hew::kernels::hopper
