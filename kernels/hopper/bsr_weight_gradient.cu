#include "kernels/hopper/bsr_weight_gradient.h"

#include <algorithm>

#include "kernels/bsr_schedule.h"
#include "kernels/hopper/bsr_weight_gradient.cuh"
#include "kernels/hopper/gradient_split.h"
#include "kernels/hopper/tensor_map.h"
#include "kernels/hopper/thread_block_counters.h"
#include "kernels/launch.cuh"
#include "kernels/product_settings.h"

namespace hew::kernels::hopper {
namespace {

// Boxes of one panel over the tokens of a step.
template <class Config>
CUtensorMap panels_of(const ConstView& matrix, std::int64_t live) {
  const std::int64_t blocks = ceil_div(matrix.shape[1], std::int64_t{Config::kBlock});
  return tensor_map(
      {.data = matrix.data,
       .dtype = matrix.dtype,
       .tf32 = true,
       .rows = matrix.shape[0],
       .cols = matrix.shape[1],
       .stride = matrix.shape[1] * Config::kElementBytes,
       .box_rows = Config::kStepTokens,
       .box_cols = Config::kRow,
       .swizzle = Config::kSwizzle,
       .fetched_bytes = fetched_bytes(Config::kBlock * Config::kElementBytes, live, blocks)});
}

// Its thread blocks are brought in as those of the kernel before it leave.
template <class Config>
void add_partials(Cuda backend, const GradientParams& params) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned int>(params.cut * 2 * kGroups * GradientSums<Config>::kPieces));
  config.blockDim = dim3(kWarpgroupThreads);
  config.stream = native(backend);
  config.attrs = &early;
  config.numAttrs = 1;
  cuda::check(cudaLaunchKernelEx(&config, add_partials_kernel<Config>, params),
              "cudaLaunchKernelEx");
}

template <class Config>
void launch(Cuda backend, const BsrWeightGradientArgs& args) {
  const GradientSchedule& schedule = args.index.schedule->gradient;
  const std::int64_t steps = ceil_div(args.dy.shape[0], Config::kStepTokens);
  const std::int64_t processors = limits(backend).multiprocessors;
  const std::int64_t live_columns = (schedule.live_rows + schedule.live_cols) * args.index.block;
  const GradientSplit split = split_gradient({.items = schedule.count,
                                              .panels = schedule.panels,
                                              .most = schedule.most,
                                              .block = args.index.block,
                                              .nnzb = args.index.nnzb,
                                              .live_columns = live_columns,
                                              .steps = steps,
                                              .multiprocessors = processors});
  const std::int64_t cut = schedule.count - split.whole;
  const std::int64_t tiles = split.whole + cut * split.splits;
  Tensor partial = Tensor::empty({cut * split.splits, 2, kGroups, kGroupElements}, DType::kFloat32,
                                 backend.stream);
  const auto& counters = backend.stream.state->get<ThreadBlockCounters>(backend.stream);
  const GradientParams params{
      .items = reinterpret_cast<const GradientItem*>(schedule.items.template data<std::int32_t>()),
      .whole = static_cast<int>(split.whole),
      .cut = static_cast<int>(cut),
      .splits = static_cast<int>(split.splits),
      .steps = static_cast<int>(steps),
      .rows = static_cast<int>(args.index.rows),
      .cols = static_cast<int>(args.index.cols),
      .add = args.accumulate,
      .dvalues = args.dvalues.as<float>(),
      .partial = partial.data<float>(),
      // In tf32 the instructions bind.
      .lead = GradientSums<Config>::kAsync ? static_cast<int>(split.lead) : 0,
      .draw = {counters.tiles()},
      .at_work = counters.at_work()};
  const auto kernel = weight_gradient_kernel<Config>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   Config::kSharedBytes),
              "cudaFuncSetAttribute");
  const auto grid = static_cast<unsigned int>(std::min(processors, tiles));
  kernel<<<grid, kGradientThreads, Config::kSharedBytes, native(backend)>>>(
      panels_of<Config>(args.dy, schedule.live_rows), panels_of<Config>(args.x, schedule.live_cols),
      params);
  check_launch("bsr_weight_gradient");
  if (cut == 0)
    return;
  add_partials<Config>(backend, params);
}

template <class Element>
void launch_for_block(Cuda backend, const BsrWeightGradientArgs& args) {
  if (args.index.block == 32)
    return launch<GradientConfig<Element, 32>>(backend, args);
  if (args.index.block == 64)
    return launch<GradientConfig<Element, 64>>(backend, args);
  launch<GradientConfig<Element, 128>>(backend, args);
}

// Of bf16's items; in tf32 there is room for either's.
int most_panels(std::int64_t block) {
  return block == 16   ? GradientConfig<__nv_bfloat16, 16>::kPanels
         : block == 32 ? GradientConfig<__nv_bfloat16, 32>::kPanels
         : block == 64 ? GradientConfig<__nv_bfloat16, 64>::kPanels
                       : GradientConfig<__nv_bfloat16, 128>::kPanels;
}

}  // namespace

bool takes_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args) {
  constexpr int kHopper = 90;
  const bool bf16 = args.dy.dtype == DType::kBFloat16;
  const bool tf32 = args.dy.dtype == DType::kFloat32 && args.index.block >= 32 &&
                    backend.stream.state->get<ProductSettings>(backend.stream).tf32;
  const std::uintptr_t write_bytes = bf16 ? 8 : 16;  // sums are written in twos or fours
  return limits(backend).capability == kHopper && (bf16 || tf32) &&
         args.index.schedule != nullptr && args.index.schedule->gradient.count > 0 &&
         (tf32 || args.index.schedule->gradient.most <= most_panels(args.index.block)) &&
         movable(args.dy) && movable(args.x) &&
         reinterpret_cast<std::uintptr_t>(args.dvalues.data) % write_bytes == 0;
}

void bsr_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args) {
  if (args.dy.shape[0] == 0) {
    if (!args.accumulate) {
      const auto bytes = static_cast<std::size_t>(args.dvalues.numel()) * sizeof(float);
      cuda::check(cudaMemsetAsync(args.dvalues.data, 0, bytes, native(backend)), "cudaMemsetAsync");
    }
    return;
  }
  if (args.dy.dtype == DType::kFloat32)
    return launch_for_block<float>(backend, args);
  if (args.index.block == 16)
    return launch<GradientConfig<__nv_bfloat16, 16>>(backend, args);
  launch_for_block<__nv_bfloat16>(backend, args);
}

}  // namespace hew::kernels::hopper
